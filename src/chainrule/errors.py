"""The exceptions of chainrule. Each also derives from the built-in a caller would expect.

ChainruleError
├── ShapeError (ValueError)        shapes do not fit together; both are printed
├── AxisError (ValueError, IndexError)  an axis or index out of range
├── DTypeError (TypeError)         a dtype that the operation does not take
├── UnsupportedError (TypeError, AttributeError)  not there, with what to use instead
├── MutationError (TypeError)      an in-place write, with the line to write instead
├── GradientError (ValueError)     a derivative that cannot be taken as asked
├── GateError (ValueError)         a user's own gate broke its contract
├── TraceError (TypeError)         a program whose course depends on values being traced
├── GraphError (ValueError)        a graph that breaks the rules `Graph.verify` checks
├── CompileError (RuntimeError)    a program that cannot be compiled, or a machine that cannot
├── StructureError (ValueError)    a Jacobian whose structure does not allow what was asked for
├── CheckError (AssertionError)    a gradient check failed
├── DataError (ValueError)         data that cannot be used, with file, row and column
└── RunError (ValueError)          a run folder that is missing, damaged or does not fit
"""


class ChainruleError(Exception):
    """The base of every error that chainrule raises on purpose."""


class ShapeError(ChainruleError, ValueError):
    """Shapes do not fit together."""


class AxisError(ChainruleError, ValueError, IndexError):
    """An axis or an index is out of range."""


class DTypeError(ChainruleError, TypeError):
    """A dtype that the operation does not take."""


class UnsupportedError(ChainruleError, TypeError, AttributeError):
    """Something chainrule does not have; the message names what to use instead."""


class MutationError(ChainruleError, TypeError):
    """An in-place write to an immutable Tensor; the message holds the line to write instead."""


class GradientError(ChainruleError, ValueError):
    """A derivative that cannot be taken as asked."""


class GateError(ChainruleError, ValueError):
    """A user's own gate broke its contract, for example by a gradient of the wrong shape."""


class TraceError(ChainruleError, TypeError):
    """A program whose course depends on values cannot be traced."""


class GraphError(ChainruleError, ValueError):
    """A graph breaks the rules that `Graph.verify` checks."""


class CompileError(ChainruleError, RuntimeError):
    """A program that cannot be compiled as asked, or settings of the compiler that cannot be."""


class StructureError(ChainruleError, ValueError):
    """The structure of a Jacobian does not allow what was asked for; the message says why."""


class CheckError(ChainruleError, AssertionError):
    """A gradient check failed."""


class DataError(ChainruleError, ValueError):
    """Data that cannot be used; the message says where."""


class RunError(ChainruleError, ValueError):
    """A run folder that is missing, damaged, or does not fit what is asked of it."""
