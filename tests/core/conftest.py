from hypothesis import settings

settings.register_profile(
    "core", derandomize=True, deadline=None, database=None, max_examples=300
)
settings.load_profile("core")
