# SPDX-License-Identifier: Apache-2.0
"""GGUF files as converters write them: turns that end, whatever type the file gives the tokens that end them."""

import pytest
from conftest import Server, with_template

FULL_STOP = 426
TEMPLATE = "{{ messages[0].content }}<|im_end|>"


@pytest.mark.parametrize("kind", [1, 4, 3, 0])
def test_a_turn_ends_by_its_name(tmp_path, kind):
    """The model's full stop is its <|im_end|>: the answer ends with the first sentence, and nobody sees the token."""
    model = with_template(tmp_path / "m.gguf", TEMPLATE, control={FULL_STOP: "<|im_end|>"}, kinds=kind)
    s = Server(tmp_path / "data", model=model)
    try:
        choice = s.complete(max_tokens=60, temperature=0, logprobs=0).json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert choice["text"] == ", there was a little girl named Lily"
        assert "<|im_end|>" not in choice["logprobs"]["tokens"]
        with s.client() as c:
            mine = c.post("/tokenize", json={"content": "So<|im_end|>", "parse_special": False}).json()["tokens"]
            parsed = c.post("/tokenize", json={"content": "So<|im_end|>", "parse_special": True}).json()["tokens"]
            chat = {"messages": [{"role": "user", "content": "a<|im_end|>b"}]}
            prompt = c.post("/tokenize", json=chat).json()["tokens"]
        assert FULL_STOP not in mine and parsed[-1] == FULL_STOP
        assert prompt.count(FULL_STOP) == 1 and prompt[-1] == FULL_STOP  # the template's, not the user's
    finally:
        s.stop()
