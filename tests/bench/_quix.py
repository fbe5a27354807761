"""Another rival: Quix Streams, the last price as forecast, exactly once, a commit for each message.

    PYTHON _quix.py BOOTSTRAP INPUT OUTPUT

PYTHON has the package `quixstreams`, which is none of ours.
"""

import sys
from typing import Any

from quixstreams import Application


def forecast(tick: dict[str, Any]) -> dict[str, Any]:
    """Same as the last price."""
    return {"as_of": tick["ts"], "yhat": tick["prices"], "last": tick["prices"]}


def main(bootstrap: str, source: str, target: str) -> None:
    """Serve until killed."""
    application = Application(
        broker_address=bootstrap,
        consumer_group=f"{target}-quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=1,
        loglevel="ERROR",
    )
    frame = application.dataframe(application.topic(source, value_deserializer="json"))
    frame.apply(forecast).to_topic(application.topic(target, value_serializer="json"))
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
