"""Your own images: a folder for each class, or the arrays of a NumPy file."""

from fedkd.datasets.folder.dataset import Folder as Folder
