"""The columns of a Parquet file as text, which is what a Table holds."""

from typing import Any

from ..errors import DataError
from .extras import library
from .files import file_size


def read_columns(source: str) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and each as text; a missing value is "", as in a CSV file.

    Raises DataError for a file that is no Parquet file or is damaged, and for columns that are
    neither numbers nor texts nor booleans.
    """
    file_size(source)
    pa = library("pyarrow", "pyarrow", "parquet", source)
    parquet = library("pyarrow.parquet", "pyarrow", "parquet", source)
    try:
        with parquet.ParquetFile(source) as file:
            names = list(file.schema_arrow.names)
            for field in file.schema_arrow:
                if not _is_plain(pa.types, field.type):
                    raise DataError(
                        f"{source}, column {field.name!r}: {field.type} is neither numbers nor "
                        "texts; leave it out, or write it as one of them"
                    )
            columns: list[list[str]] = [[] for _ in names]
            # A batch at a time: what is held grows with what is there, not with what is claimed.
            for batch in file.iter_batches():
                for cells, column in zip(columns, batch.columns, strict=True):
                    cells += ("" if v is None else str(v).strip() for v in column.to_pylist())
            claimed = file.metadata.num_rows
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{source}: no Parquet file, or damaged: {error}") from error
    held = {len(cells) for cells in columns}
    if held - {claimed}:
        raise DataError(f"{source}: damaged: {claimed} rows are claimed, {max(held)} are there")
    return names, columns


def _is_plain(types: Any, kind: Any) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    checks = (
        types.is_integer, types.is_floating, types.is_boolean, types.is_string,
        types.is_large_string, types.is_decimal,
    )  # fmt: skip
    return any(check(kind) for check in checks)
