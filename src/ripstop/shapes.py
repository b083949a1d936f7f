"""The letters that tensor names end in: `x_BTD` has the axes batch, time, model width.

B  batch                      K  width of a query or key head
T  time (query positions)     P  width of a value or state-space head
S  time (memory positions)    N  state size of a state-space model
D  model width                G  groups of heads that share keys and values, or B and C
H  heads                      C  channels of a convolution
V  vocabulary                 W  width of a convolution or of a window
                              Q  positions inside one chunk
"""
