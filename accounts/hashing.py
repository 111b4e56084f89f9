"""How passwords are hashed: slowly for who guesses, and never more of them at once than the machine has room for."""

from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth.hashers import Argon2PasswordHasher

# Every request has a thread of its own. Where each hashed by itself, a few dozen sign-ins would take all the memory,
# and keep it: what a thread gave back, the C library holds ready for that thread.
hashing = ThreadPoolExecutor(2, "hashing")


class Argon2(Argon2PasswordHasher):
    """Argon2id as OWASP recommends it: 19 MiB a hash. One of other costs is made anew at the next sign-in."""

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        return hashing.submit(super().encode, password, salt).result()

    def verify(self, password: str, encoded: str) -> bool:
        return hashing.submit(super().verify, password, encoded).result()
