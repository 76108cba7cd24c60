"""A Celery application whose tasks use sessions. Its parent process has used one before."""

import os
from pathlib import Path

import django
from celery import Celery

django.setup()

from django_mongo_sessions.backends.mongodb import SessionStore  # noqa: E402
from tests.chaos.forking import visit  # noqa: E402
from tests.chaos.site import connections  # noqa: E402

folder = Path(os.environ["CELERY_FOLDER"])
app = Celery("chaos", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
    },
    worker_hijack_root_logger=False,
)
SessionStore("b2" * 16).load()
connections.leave_to_children()


@app.task
def work(mark):
    """Do what a forked process does."""
    return connections.report(wrong=visit(mark))
