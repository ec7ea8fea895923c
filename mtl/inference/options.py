"""Names and defaults that `mtl predict` needs before the libraries are imported."""

FORMATS = ("jsonl", "csv", "tsv", "parquet", "text")
# Endings of files of answers.
PARQUET = ".parquet"
ENDINGS = (".jsonl", ".csv", PARQUET)
# The file that describes a native export.
MANIFEST = "mtl.json"
# Number of rows that are read and sorted by length at a time.
WINDOW = 4096
