"""Data sets and their preparation, in NumPy arrays only.

dataset   the class Dataset, and `arrays`, which makes one of arrays
digits    handwritten digits that come with the package
table     a CSV file as checked columns of text
column    one column of the recipe from text to numbers
encoder   the whole recipe; fitted once, kept with the model
batching  splits, shuffles and batches
"""

from .batching import Split, batches, permutation, split, split_dataset
from .column import Column
from .dataset import Dataset, Task, arrays
from .digits import digits
from .encoder import Encoder, read_csv, split_csv
from .table import Table, read_table

__all__ = [
    "Column",
    "Dataset",
    "Encoder",
    "Split",
    "Table",
    "Task",
    "arrays",
    "batches",
    "digits",
    "permutation",
    "read_csv",
    "read_table",
    "split",
    "split_csv",
    "split_dataset",
]
