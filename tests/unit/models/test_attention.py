"""Attention by plain products, where these are faster, is torch's own attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from portraitanim.models import attention_processors
from portraitanim.models.attention_processors import attend


@pytest.mark.parametrize(("queries", "keys"), [(12, 24), (64, 3), (4, 4)])
@pytest.mark.parametrize("max_scores", [1 << 22, 600, 10])
def test_products_in_half_precision_are_torchs_attention(
    monkeypatch: pytest.MonkeyPatch, queries: int, keys: int, max_scores: int
) -> None:
    monkeypatch.setattr(attention_processors, "_MAX_SCORES", max_scores)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(5, n, 16, generator=generator) for n in (queries, keys, keys))
    heads = [x.unflatten(-1, (2, 8)).transpose(1, 2) for x in (query, key, value)]
    exact = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    with torch.no_grad():
        half = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), 2)
    assert half.dtype is torch.bfloat16
    # Eight bits: inputs, scores, weights and output are each rounded by up to 0.4 %.
    torch.testing.assert_close(half.float(), exact, atol=0.03, rtol=0)
