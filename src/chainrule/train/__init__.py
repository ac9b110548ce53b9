"""Training: the loop, checkpoints, run folders, metrics.

loop        `fit`: epochs with progress, validation, early stopping and checkpoints
training    a training under way: a step, an epoch, how it is kept and taken up again
compiling   which batches are worth compiling for, and what runs them so or in eager
checkpoint  all of it in one file that verifies itself (sealed)
interrupt   Ctrl-C and SIGTERM wait for the step under way
measure     the loss and the score of a model on data
metrics     what is measured in an epoch, and its CSV file
models      networks by name and sizes, as run folders describe them
options     the settings of a job, and defaults that suit data and model
sources     where the data of a run comes from
run         run folders: weights, settings and metrics; written atomically, never trusted
tasks       a whole job: data, model, training, test; what the command line calls
predictions what a run says of rows of a table, of pictures, of arrays
report      accuracy, confusion, errors of a run on data, class by class
text        what a model of text writes, and how well it predicts
runs        lists and compares run folders
"""

from .checkpoint import Checkpoint, load_checkpoint
from .loop import History, fit
from .measure import evaluate
from .models import cnn, mlp
from .options import Options
from .predictions import predict, predict_csv
from .run import Run, load_run
from .tasks import resume, train, train_csv, train_digits

__all__ = [
    "Checkpoint",
    "History",
    "Options",
    "Run",
    "cnn",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_run",
    "mlp",
    "predict",
    "predict_csv",
    "resume",
    "train",
    "train_csv",
    "train_digits",
]
