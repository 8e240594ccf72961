"""What needs a GPU, as parts that are run one by one and recorded; `make cuda`."""
