"""Django's settings, as few as will do. For a demonstration on one machine: they are open and have a known key."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
TRIODE_URL = os.environ.get("TRIODE_URL", "ws://127.0.0.1:7400")

SECRET_KEY = "known to everybody"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["shop"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", FOLDER / "shop.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # threads that write wait for each other, and do not fail
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,  # the server has begun to log before this is read
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
