import random

import pytest

from exchanges.stark import auth_hash, domain_hash, pedersen, public_key, sign, verify

PRIVATE = 0x3C1E9550E66958296D11B60F8E8E7A7AD990D07FA65D5F7652C4A6C87D4E3CC
PUBLIC = 0x77A3B314DB07C45076D11F62B6F9E748A39790441823307743CF00D6597EA43
ACCOUNT = 0x129F3DC1B8962D8A87ABC692424C78FDA963ADE0E1CD17BF3D1C26F8D41EE7A
CHAIN = "PRIVATE_SN_PARACLEAR_MAINNET"
HASH = 0x204DA36CF4EBCD3BD82FE939F39FDF19380546C2322E9F0BC8A8B0667402E98
BY_CCXT = (
    0x5D7B95BB8934F3E15B9084B27F8E2D4E0690AD3A6B4195C0E5366BCA70125D7,
    0x6D28093BF6B428108F969DCCF2DCDFE4E7DA3BBF3F95152A484C4B7D3D104C6,
)
BY_STARKNET_PY = (
    1092497964761747713028516407137599116653888047016496560402195257148165163382,
    1021109691067043724381714602672624297942620272336865675796354089644778723230,
)


def test_a_known_pair_has_its_known_hash() -> None:
    assert pedersen(1, 2) == 0x5BB9440E27889A364BCB678B1F679ECD1347ACDEDCBF36E83494F857CC58026


def test_a_known_key_has_its_known_public_key() -> None:
    assert public_key(PRIVATE) == PUBLIC


def test_a_known_request_has_its_known_hash() -> None:
    assert domain_hash(CHAIN) == 0x6F74F207280B65CF663FB8D7763FAC1E7398CD6D7DA5D7681DC300EE4278A0A
    assert auth_hash(account=ACCOUNT, chain_id=CHAIN, timestamp=1760000000, expiration=1760001800) == HASH


@pytest.mark.parametrize("signature", [BY_CCXT, BY_STARKNET_PY], ids=["ccxt", "starknet-py"])
def test_signatures_of_others_are_right(signature: tuple[int, int]) -> None:
    assert verify(HASH, signature, PUBLIC)


def test_a_signature_is_right_for_one_message_and_one_key() -> None:
    r, s = BY_CCXT
    assert not verify(HASH + 1, BY_CCXT, PUBLIC)
    assert not verify(HASH, BY_CCXT, public_key(PRIVATE + 1))
    assert not verify(HASH, (r, s + 1), PUBLIC)
    assert not verify(HASH, (r + 1, s), PUBLIC)
    assert not verify(HASH, (s, r), PUBLIC)


@pytest.mark.parametrize("signature", [(0, 0), (0, 1), (1, 0), (2**251, 1), (1, 2**252), (-1, -1)])
def test_what_is_no_signature_is_wrong(signature: tuple[int, int]) -> None:
    assert not verify(HASH, signature, PUBLIC)


@pytest.mark.parametrize("key", [0, 1, 5, 2**252])
def test_what_is_no_public_key_has_signed_nothing(key: int) -> None:
    assert not verify(HASH, BY_CCXT, key)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_key_signs_is_right(seed: int) -> None:
    draw = random.Random(seed)
    private, message = draw.randrange(1, 2**251), draw.randrange(2**251)
    signature = sign(message, private)
    assert verify(message, signature, public_key(private))
    assert not verify(message + 1, signature, public_key(private))
    assert sign(message, private) != signature
