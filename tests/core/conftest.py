import os

from hypothesis import settings

settings.register_profile(
    "core",
    derandomize=True,
    deadline=None,
    database=None,
    # Mutation testing asks for fewer: it runs the tests a thousand times.
    max_examples=int(os.environ.get("MAX_EXAMPLES", "300")),
)
settings.load_profile("core")
