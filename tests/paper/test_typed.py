"""Results typed by hand: fifty planted ones are found, in the paper and in a README, and the real texts have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ripstop.paper.typed import typed_results

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results/metrics/cpu").glob("*.json")}
TEXTS = [
    ROOT / "paper/main.tex",
    *sorted((ROOT / "paper/sections").glob("*.tex")),
    ROOT / "README.md",
    ROOT / "paper/README.md",
]

IN_LATEX = r"""
Recall falls to 0.24 at the largest number of pairs.
Attention recalls 99.9\,\% of all pairs.
Attention recalls 99.9 percent of all pairs.
The hybrid gains 76 points over pure Mamba-2.
The hybrid gains $0.76$ over pure Mamba-2.
The gain is $\approx 0.76$.
The exponent is $e = 0.93$.
The exponent lies in $[0.85, 1.01]$.
The gain is $0.76 \pm 0.02$.
Mamba-2 reads $12\times$ fewer bytes.
Mamba-2 reads 12x fewer bytes.
Mamba-2 reads twelve times fewer bytes.
It reads ten-fold less.
It is tenfold cheaper.
It is twice as fast.
A half as large state does it; it is half as good.
Doubling the width halves the loss.
This doubles the recall.
Two thirds of the recall are lost.
Three percent of the needles are missed.
It loses two points of accuracy.
The capacity is 28.7 pairs.
The capacity is 28.7.
(28.7 pairs for Mamba-2)
Only 5 of 30 runs converge.
It needs 1,024 tokens.
It needs 1\,024 tokens.
It needs 1{,}024 tokens.
It reaches BLEU 31.4 and chrF++ 55.
The loss is 1.75 bits per byte [1.746, 1.756].
The loss is 1.751~bits per byte.
At 64k tokens everything is found.
A state of 8 kB is enough; so is one of 8kB.
It takes 3.2ms a token.
It takes 3.2 ms a token.
The ratio is 1.79, near the width.
The difference is -0.011.
The difference is $-0.011$.
It is worse by .05 in the mean.
The rate is 1e-3 where it diverges.
The rate is 5.0e-3.
Seeds 0 to 4 agree.
For $n=64$ pairs it fails.
At $p < 0.05$ this is significant.
Layer 3 selects them.
\emph{0.9} of them are found.
\textbf{Recall: 0.99.}
\caption{Recall of 0.99 by attention.}
\paragraph{Recall is 0.99.} It holds.
In the first 50 steps nothing is learnt\footnote{And in 100 more.}.
"""

IN_MARKDOWN = """
Two layers of attention recall 0.99 of all pairs; their accuracy is high.
The accuracy is 99.9 %.
The hybrid gains 76 points.
Mamba-2's capacity is 28.7 pairs.
The exponent is 0.93 [0.85, 1.01].
It is three times faster.
It is twice as accurate.
* BLEU 31.4 without context
| attention | recall 0.99 |
A window costs 0.011 bits per byte.
The claim was refuted with a ratio of 1.79.
The loss is $1.75$.
12x fewer bytes, and better.
"""


def _found(folder: Path, name: str, text: str) -> list[str]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return typed_results(path, KNOWN)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_the_real_texts_have_none(path: Path) -> None:
    assert typed_results(path, KNOWN) == []


@pytest.mark.parametrize("n", range(len(planted := IN_LATEX.strip().split("\n"))))
def test_planted_in_a_section(n: int, tmp_path: Path) -> None:
    real = (ROOT / "paper/sections/mqar_cliff.tex").read_text(encoding="utf-8").split("\n")
    place = 1 + n % (len(real) - 2)
    text = "\n".join([*real[:place], planted[n], *real[place:]])
    found = _found(tmp_path, "sections/mqar_cliff.tex", text)
    assert found and all(f":{place + 1}: " in sentence for sentence in found), (planted[n], found)


def test_there_are_fifty() -> None:
    assert len(IN_LATEX.strip().split("\n")) == 50


@pytest.mark.parametrize("sentence", IN_MARKDOWN.strip().split("\n"))
def test_planted_in_the_readme(sentence: str, tmp_path: Path) -> None:
    real = (ROOT / "README.md").read_text(encoding="utf-8").split("## What it stands on")
    place = real[0].count("\n") + 1
    found = _found(tmp_path, "README.md", f"{real[0]}{sentence}\n\n## What it stands on{real[1]}")
    assert found and all(f":{place}: " in one for one in found), found


def test_it_says_what_to_write() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ripstop.paper.typed.read_text", lambda path: "Recall is 0.24 there, and 23.5\\,\\% here; 0.1234 nowhere."
        )
        found = typed_results(Path("sections/mqar_cliff.tex"), {"a": {"x": 0.2351}, "mqar_cliff": {"recall": 0.2355}})
        bare = typed_results(Path("README.md"), {"a": {"x": 0.2351}})
    place, no_result = "sections/mqar_cliff.tex:1:", "where it is no result"
    assert found == [
        rf"{place} '0.24' is typed by hand; write \val{{mqar_cliff.recall}} or \val{{a.x}}, or \given{{0.24}} {no_result}",
        rf"{place} '23.5' is typed by hand; write \val{{mqar_cliff.recall}} or \val{{a.x}}, or \given{{23.5}} {no_result}",
        rf"{place} '0.1234' is typed by hand; write \val{{mqar_cliff.<number>}}, or \given{{0.1234}} {no_result}",
    ]
    assert bare[0] == (
        r"README.md:1: '0.24' is typed by hand where a result is told; leave it to the paper, which prints it by \val{a.x}"
    )


@pytest.mark.parametrize(
    "text",
    [
        r"Mamba-2 and GPT-2 have int8, fp16 and chrF2; \val{mqar_cliff.n_runs} runs of \texttt{SmolLM2-135M}.",
        r"95\,\% intervals, and 95 percent of them.",
        r"\citep{dao2024mamba2} in Figure~\ref{fig:a1} and \includegraphics[width=0.5\textwidth]{figures/a1.pdf}",
        "Nothing. % but 0.99 in a comment",
        r"A level of \given{0.9}, and \given{eight times} the keys.",
        r"Capacity is $2^m S^e$ for $S_1$ and $x_{t-1}$.",
        r"\begin{tabular}{p{3cm}} two layers, one of five ways",
    ],
)
def test_what_is_no_result(text: str, tmp_path: Path) -> None:
    assert _found(tmp_path, "sections/mqar_cliff.tex", text) == []


@pytest.mark.parametrize(
    "text", ["Python 3.11 to 3.13 are needed.", "`--set training.lr=0.1` is better.", "Trains 430 models."]
)
def test_what_is_no_result_in_a_readme(text: str, tmp_path: Path) -> None:
    assert _found(tmp_path, "README.md", text) == []
