"""What can be wrong with a backward: the names that a diagnosis may give.

Fixed before the diagnosis was written; each case of the corpus names one of them.
"""

CAUSES = (
    "upstream forgotten",  # the local derivative alone
    "local forgotten",  # the upstream gradient alone
    "sign",
    "factor",  # a constant factor, as 2 or the size of the batch
    "transposed",  # the gradient, or the matrix it was multiplied with
    "not summed",  # over the batch, or over axes along which an operand was broadcast
    "swapped",  # the gradients of two inputs in the other order
    "wrong input",  # the gradient of another input, for this one
    "in-place damage",  # of an input, of the upstream gradient, or of what was saved
    "missing gradient",  # None or zeros
    "count",  # more or fewer gradients than inputs
    "shape",  # a shape that no usual mistake explains
    "raises",
    "wrong local",  # none of the above: the local derivative itself is wrong
)
