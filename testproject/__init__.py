import os
from pathlib import Path

# They sign in with their names. The first one may use the admin.
USERS = ["demo", "alice"]
# What the demo keeps between its runs: users in SQLite, sessions in MongoDB.
STATE_DIR = Path(os.environ.get("DEMO_STATE") or Path(__file__).resolve().parent.parent / ".demo")
