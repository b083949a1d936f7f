"""The letters that tensor names end in: `x_BTD` has the axes batch, time, model width.

B  batch                      K  width of a query or key head
T  time (query positions)     P  width of a value or state-space head
S  time (memory positions)    N  state size of a state-space model; elsewhere, a count
D  model width                G  groups of heads that share keys and values, or B and C
H  heads                      C  channels of a convolution
V  vocabulary                 W  width of a convolution or of a window
c  chunks, or blocks          Q  positions inside one chunk; questions
R  rows: prompts, resamples   M  beams; blocks to select from; vectors of a wire
n  selected blocks            l  tokens of a compressed block
s  tokens that one reads      t  some of the T
1  an axis of one             2  x and y; keys and values
3  branches                   L  layers
A  answers to a question      F  tokens of filler
E  ranges, by where they begin
Z  width of a wire's vector   r  rank of a latent, with or without a rotary key behind it
"""
