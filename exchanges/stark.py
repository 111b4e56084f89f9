"""The STARK curve: hashing and signing for Paradex, in plain Python.

https://docs.starkware.co/starkex/crypto/stark-curve.html and https://docs.paradex.trade/api/general-information/authentication
Fast enough to sign in now and then. Its time depends on the key, so sign nothing that a stranger may clock.
"""

from functools import cache, lru_cache, reduce
from itertools import accumulate
from secrets import randbelow

Point = tuple[int, int] | None  # None is the point at infinity

P = 2**251 + 17 * 2**192 + 1
N = 0x800000000000010FFFFFFFFFFFFFFFFB781126DCAE7B2321E66A241ADC64D2F  # the order of G
B = 0x6F21413EFBE40DE150E596D72F7A8C5609AD26C15C915C1F4CDFCB99CEE9E89  # y² = x³ + x + B
G = (
    0x1EF15C18599971B7BECED415A40F0C7DEACFD9B0D1819E03D723D8BC943CFCA,
    0x5668060AA49730B7BE4801DF46EC62DE53ECD11ABE43A32873000C36E8DC1F,
)
H0, H1, H2, H3, H4 = (
    (
        2089986280348253421170679821480865132823066470938446095505822317253594081284,
        1713931329540660377023406109199410414810705867260802078187082345529207694986,
    ),
    (
        996781205833008774514500082376783249102396023663454813447423147977397232763,
        1668503676786377725805489344771023921079126552019160156920634619255970485781,
    ),
    (
        2251563274489750535117886426533222435294046428347329203627021249169616184184,
        1798716007562728905295480679789526322175868328062420237419143593021674992973,
    ),
    (
        2138414695194151160943305727036575959195309218611738193261179310511854807447,
        113410276730064486255102093846540133784865286929052426931474106396135072156,
    ),
    (
        2379962749567351885752724891227938183011949129833673362440656643086021394946,
        776496453633298175483985398648758586525933812536653089401905292063708816422,
    ),
)
LIMIT = 2**251  # of r and of 1 / s
LOW = 2**248 - 1

# Keccak-256 of the types' text, the lowest 250 bits.
DOMAIN_TYPE = 0x98D1932052FC5137543DE5ED85B7A88555A4CD1FF5D5BFEDB62ED9B9A1F0DB
REQUEST_TYPE = 0x186CDEF6B179923C411C13C11B8A825F12BF34203BDDA0A984DA9D6F2313C2


def public_key(private_key: int) -> int:
    return _x(_times(private_key, G))


def pedersen(a: int, b: int) -> int:
    return _x(_sum(H0, _times(a & LOW, H1), _times(a >> 248, H2), _times(b & LOW, H3), _times(b >> 248, H4)))


def auth_hash(*, account: int, chain_id: str, timestamp: int, expiration: int) -> int:
    """What is signed to sign in: `POST /v1/auth` at `timestamp`, good until `expiration`, both Unix seconds."""
    request = _chain(REQUEST_TYPE, _felt("POST"), _felt("/v1/auth"), 0, timestamp, expiration)
    return _chain(_felt("StarkNet Message"), domain_hash(chain_id), account, request)


@cache
def domain_hash(chain_id: str) -> int:
    return _chain(DOMAIN_TYPE, _felt("Paradex"), _felt(chain_id), 1)


def sign(message: int, private_key: int) -> tuple[int, int]:
    """(r, s). Each time another one."""
    while True:
        k = 1 + randbelow(N - 1)
        r = _x(_times(k, G))
        s = (message + r * private_key) * pow(k, -1, N) % N
        if 0 < r < LIMIT and s and pow(s, -1, N) < LIMIT:
            return r, s


def verify(message: int, signature: tuple[int, int], public_key: int) -> bool:
    r, s = signature
    y = _root(public_key**3 + public_key + B)
    if y is None or not (0 < public_key < P and 0 < r < LIMIT and 0 < s < N):
        return False
    w = pow(s, -1, N)
    ours, theirs = _times(message * w % N, G), _times(r * w % N, (public_key, y))
    sums = (_plus(ours, theirs), _plus(ours, _negative(theirs)))  # a key is an x: it stands for two points
    return w < LIMIT and any(point is not None and point[0] % N == r for point in sums)


def _felt(text: str) -> int:
    return int.from_bytes(text.encode("ascii"))


def _chain(*values: int) -> int:
    return pedersen(reduce(pedersen, values, 0), len(values))


def _x(point: Point) -> int:
    if point is None:
        raise ValueError("the point at infinity has no x")
    return point[0]


def _negative(point: Point) -> Point:
    return point and (point[0], P - point[1])


def _plus(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    (x1, y1), (x2, y2) = a, b
    if x1 != x2:
        slope = (y2 - y1) * pow(x2 - x1, -1, P)
    elif y1 == y2 != 0:
        slope = (3 * x1 * x1 + 1) * pow(2 * y1, -1, P)
    else:
        return None
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def _sum(*points: Point) -> Point:
    return reduce(_plus, points, None)


def _times(factor: int, point: Point) -> Point:
    return _sum(*(double for bit, double in enumerate(_doubles(point)) if factor % N >> bit & 1))


@lru_cache(32)
def _doubles(point: Point) -> tuple[Point, ...]:
    """The point times 1, 2, 4, ..."""
    return tuple(accumulate(range(N.bit_length() - 1), lambda double, _: _plus(double, double), initial=point))


def _root(square: int) -> int | None:
    """One of the two square roots modulo P, None if there is none. Tonelli and Shanks; 3 has no root."""
    if pow(square, P // 2, P) != 1:
        return None
    odd = P >> 192
    root, rest, unit = pow(square, odd // 2 + 1, P), pow(square, odd, P), pow(3, odd, P)
    for bit in range(190, -1, -1):  # root² = square · rest, and unit² has order 2 ** (bit + 1)
        if pow(rest, 2**bit, P) != 1:
            root, rest = root * unit % P, rest * unit * unit % P
        unit = unit * unit % P
    return root
