"""Sentences of a document: where one ends, and the same document with its sentences in another order."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from ripstop.data.batching import derived_seed
from ripstop.data.question import Question

# A letter alone, a word that is always cut short, or letters with full stops between them end no sentence.
_SHORT = r"(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Ste|Mt|Jr|Sr|No|Op|Inc|Ltd|Co|vs|lit|approx|[cdbf]|cf|e\.g|i\.e|U\.S|U\.K|D\.C|B\.C|A\.D)"
_END = re.compile(r"(?<=[.!?])(?P<quote>[\"”’)\]]*)\s+(?=[\"“‘(\[]*[A-Z0-9])")
_CUT_SHORT = re.compile(rf"(?:^|[\s(\[\"“]){_SHORT}\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text whose white space is single spaces; joined by spaces they are the text again.

    >>> sentences("H. G. Wells lived in the U.S. Capital. He wrote. So!")
    ['H. G. Wells lived in the U.S. Capital.', 'He wrote.', 'So!']
    """
    found, start = [], 0
    for end in _END.finditer(text):
        piece = text[start : end.end("quote")]
        if not _CUT_SHORT.search(piece):
            found.append(piece)
            start = end.end()
    return [*found, text[start:]] if start < len(text) else found


def shuffled(question: Question) -> Question:
    """The question on its document with the sentences in an order that the document's name decides.

    Introductions say what matters first (lead bias); then what is first says nothing. A document whose answer runs over the
    end of a sentence stays as it is.
    """
    pieces = sentences(question.document)
    order = np.random.default_rng(derived_seed("sentences", *question.document_id.encode())).permutation(len(pieces)).tolist()
    document = " ".join(pieces[i] for i in order)
    if question.start is None:
        return replace(question, document=document)
    begin = 0
    for number, piece in enumerate(pieces):
        if begin <= question.start < begin + len(piece):
            before = sum(len(pieces[i]) + 1 for i in order[: order.index(number)])
            start = before + question.start - begin
            if document[start:].startswith(question.answers[0]):
                return replace(question, document=document, start=start)
        begin += len(piece) + 1
    return question
