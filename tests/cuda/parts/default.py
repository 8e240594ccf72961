"""What the device's default precision costs: the check with TF32 on, of twins that multiply."""

from tests.cuda.parts.check import main

TWINS = (
    "cnn/lenet:LeNet",
    "foundations/mlp:MLP",
    "rnn/lstm:LSTMNet_bidirectional",
    "layers/attention:attention",
)

if __name__ == "__main__":
    main("default", TWINS)
