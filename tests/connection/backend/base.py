"""The class that Django makes for an entry of DATABASES with this ENGINE."""

from django.db.backends.dummy import base


class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "mongodb"
    display_name = "MongoDB"

    def get_connection_params(self):
        entry = self.settings_dict
        params = {"host": entry["HOST"] or None, **entry["OPTIONS"]}
        named = {"username": entry["USER"], "password": entry["PASSWORD"]}
        params.update({name: value for name, value in named.items() if value})
        if entry["PORT"]:
            params["port"] = int(entry["PORT"])
        return params
