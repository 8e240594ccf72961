"""Recurrent networks: Elman, LSTM and GRU."""
