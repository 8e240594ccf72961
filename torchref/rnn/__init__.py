"""Recurrent networks: Elman, LSTM and GRU, and what is built of them."""
