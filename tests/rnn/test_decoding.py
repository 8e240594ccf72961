"""What recurrent networks write by themselves, and what padding does to them: nothing."""

import copy
import dataclasses

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict

import jaxnn.rnn.char_lm as jax_char_lm
import torchref.rnn.char_lm as torch_char_lm
from compare.discover import catalogue
from compare.ladder.pair import Pair
from compare.share import to_jax, to_numpy, to_torch

TWINS = catalogue()


def sides(name: str):
    """Both models with the same weights, as functions of a method's name and of arrays.

    Returns: the two, and the inputs, which a method other than the call takes too.
    """
    pair = Pair(dataclasses.replace(TWINS[name], data=None))
    model = copy.deepcopy(pair.model).double().eval()
    model.load_state_dict({k: to_torch(v) for k, v in pair.given.state.items()})
    flat, module = pair.weights.to_jax(pair.given.state), pair.twin.build("jax")
    inputs = {key: pair.given.batch[key] for key in pair.twin.inputs}
    inputs = {k: v.astype("float64") if v.dtype == "float32" else v for k, v in inputs.items()}

    def ours(method, *args):
        args = jax.tree.map(lambda x: to_torch(x) if isinstance(x, np.ndarray) else x, args)
        return jax.tree.map(to_numpy, getattr(model, method or "forward")(*args))

    def crossed(x):
        x = np.moveaxis(x, 1, -1) if np.ndim(x) == 4 else x
        return to_jax(x) if isinstance(x, np.ndarray) else x

    def theirs(method, *args):
        with jax.enable_x64(True):
            variables = unflatten_dict({k: to_jax(v, "float64") for k, v in flat.items()})
            args = jax.tree.map(crossed, args)
            return jax.tree.map(to_numpy, module.apply(variables, *args, method=method))

    return ours, theirs, inputs


@pytest.mark.parametrize("name", ["rnn/image_captioner:ImageCaptioner", "rnn/seq2seq:Seq2Seq"])
def test_both_write_the_same_and_the_likeliest(name):
    ours, theirs, inputs = sides(name)
    del inputs["tokens"]
    given = inputs.values()
    one, other = ours("generate", *given, 1, 5), theirs("generate", *given, 1, 5)
    if isinstance(one, tuple):
        np.testing.assert_allclose(one[1], other[1], rtol=1e-9, atol=1e-12)
        inside = np.arange(one[1].shape[2]) < inputs["lengths"][:, None, None]
        assert not one[1][~np.broadcast_to(inside, one[1].shape)].any()
        one, other = one[0], other[0]
    assert (one == other).all()
    assert len(np.unique(one)) > 1
    # given its own words, the network says each of them again
    tokens = np.insert(one[:, :-1], 0, 1, axis=1)
    for side in (ours, theirs):
        assert (side(None, *given, tokens).argmax(-1) == one).all()


@pytest.mark.parametrize(
    "name", ["rnn/bilstm:BiLSTM", "rnn/speech_tagger:SpeechTagger", "rnn/seq2seq:Seq2Seq"]
)
def test_what_stands_in_the_padding_changes_nothing(name):
    ours, theirs, inputs = sides(name)
    first, lengths, *rest = inputs.values()
    padding = np.arange(first.shape[1]) >= lengths[:, None]
    assert padding.any()
    other = np.where(padding.reshape(padding.shape + (1,) * (first.ndim - 2)), 7, first)
    for side in (ours, theirs):
        found = side(None, first, lengths, *rest)
        assert (found == side(None, other, lengths, *rest)).all()
        if not rest:
            assert not found[padding].any()
        # a short sequence alone gives what it gives in a batch
        n = np.argmin(lengths)
        alone = [each[n : n + 1] for each in (first[:, : lengths[n]], lengths, *rest)]
        wanted = found[n] if rest else found[n, : lengths[n]]
        np.testing.assert_allclose(side(None, *alone)[0], wanted, rtol=1e-9, atol=1e-12)


def test_a_tied_model_has_one_table_of_one_width():
    with pytest.raises(ValueError, match="tied"):
        torch_char_lm.CharLM(5, 3, 4, tied=True)
    tokens = np.zeros((1, 2), np.int32)
    with pytest.raises(ValueError, match="tied"):
        jax_char_lm.CharLM(5, 3, 4, tied=True).init(jax.random.key(0), tokens)
    model = torch_char_lm.CharLM(5, 4, 4, tied=True)
    assert model.fc.weight is model.embedding.weight
    params = jax_char_lm.CharLM(5, 4, 4, tied=True).init(jax.random.key(0), tokens)["params"]
    assert set(params["fc"]) == {"bias"}
    assert isinstance(model.embedding.weight, torch.nn.Parameter)


def test_a_text_in_two_pieces_is_read_as_one():
    ours, theirs, inputs = sides("rnn/char_lm:CharLM")
    tokens = inputs["tokens"]
    for side in (ours, theirs):
        whole, _ = side(None, tokens)
        first, state = side(None, tokens[:, :4])
        second, _ = side(None, tokens[:, 4:], state)
        np.testing.assert_allclose(np.concatenate([first, second], 1), whole, rtol=1e-9)
