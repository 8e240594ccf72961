"""The numerics of bfloat16 on the device, each backend against float64 and five runs on the CPU."""

from tests.cuda.parts.check import main

TWINS = (
    "training/mixed_precision:ConvNet",
    "training/mixed_precision:Block",
    "cnn/lenet:LeNet",
    "foundations/mlp:MLP",
    "rnn/gru:GRUNet",
    "layers/attention:attention",
    "layers/norm:norm",
    "layers/layer_norm:layer_norm",
    "autoencoder/vae:ConvVAE",
    "gan/dcgan:DCGAN",
)

if __name__ == "__main__":
    main("highest", TWINS, "bfloat16")
