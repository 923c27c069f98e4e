"""Queries to W&B's server: whether it answers, and what it has of a run."""

import math
from typing import Any

from addnorm_exp.runs.mirror.settings import patience
from addnorm_exp.runs.mirror.window import reason


def is_clients(error: BaseException) -> bool:
    """Whether the client or the network raised it, and not our code."""
    import wandb

    return isinstance(error, wandb.Error | TimeoutError | ConnectionError)


def connect() -> Any:
    """A `wandb.Api` whose server has answered and taken the key. Raises what the client raises."""
    import wandb

    return wandb.Api(timeout=math.ceil(patience("WANDB_INIT_TIMEOUT")))


def answers() -> bool:
    """Whether the server answers and takes the key."""
    try:
        connect()
    except Exception:  # the client has many kinds
        return False
    return True


def remote(api: Any, entity: str | None, project: str, id: str) -> Any | None:
    """The run as the server has it (a `wandb.apis.public.Run`), or None. Raises what the client raises."""
    try:
        return api.run(f"{entity or api.default_entity}/{project}/{id}")
    except Exception as error:  # RunNotFoundError, or a CommError that repeats its words
        if "not find run" in str(error):
            return None
        raise


def was_deleted(error: BaseException) -> bool:
    """Whether the server refused a run because a run with its id existed and was deleted."""
    return "HTTP 409" in str(error) or "previously created and deleted" in reason(error)
