"""Data sets and their preparation, in NumPy arrays only.

files     regular files read, with a clear error where that cannot be
dataset   the class Dataset, and `arrays`, which makes one of arrays
digits    handwritten digits that come with the package
extras    libraries that only some loaders need
idx       the format of MNIST
mnist     MNIST and Fashion-MNIST: found on the disk, or downloaded (download)
npz       NumPy's archives
images    folders of pictures, a class a folder
table     a CSV or Parquet (parquet) file as checked columns of text
column    one column of the recipe from text to numbers
encoder   the whole recipe; fitted once, kept with the model
text      text as tokens: an alphabet, and windows to predict from
batching  splits, shuffles and batches
augment   pictures changed at random, each time differently
features  colour histograms, oriented gradients, and the rings that `polar` unrolls
"""

from . import augment
from .batching import Split, batches, permutation, split, split_dataset
from .column import Column
from .dataset import Dataset, Task, arrays
from .digits import digits
from .encoder import Encoder, read_csv, split_csv
from .features import colour_histogram, histogram_of_oriented_gradients, polar, rings
from .idx import read_idx, write_idx
from .images import image_folder
from .mnist import data_folder, fashion_mnist, mnist
from .npz import npz_dataset, read_npz
from .table import Table, read_table
from .text import Alphabet, TextData, TextPart, text_data

__all__ = [
    "Alphabet",
    "Column",
    "Dataset",
    "Encoder",
    "Split",
    "Table",
    "Task",
    "TextData",
    "TextPart",
    "arrays",
    "augment",
    "batches",
    "colour_histogram",
    "data_folder",
    "digits",
    "fashion_mnist",
    "histogram_of_oriented_gradients",
    "image_folder",
    "mnist",
    "npz_dataset",
    "permutation",
    "polar",
    "read_csv",
    "read_idx",
    "read_npz",
    "read_table",
    "rings",
    "split",
    "split_csv",
    "split_dataset",
    "text_data",
    "write_idx",
]
