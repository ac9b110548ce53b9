"""Training: the loop, run folders, metrics.

loop     `fit`: epochs of gradient descent with progress, validation and early stopping
metrics  what is measured in an epoch, and its CSV file
models   networks by name and sizes, as run folders describe them
run      run folders: weights, settings and metrics; written atomically, never trusted
tasks    a whole job: data, model, training, test; what the command line calls
"""

from .loop import History, evaluate, fit
from .models import mlp
from .run import Run, load_run
from .tasks import predict_csv, train_csv, train_digits

__all__ = [
    "History",
    "Run",
    "evaluate",
    "fit",
    "load_run",
    "mlp",
    "predict_csv",
    "train_csv",
    "train_digits",
]
