"""What the shop stores."""

from django.db import models


class Order(models.Model):
    """What a customer has bought."""

    item: "models.CharField[str, str]" = models.CharField(max_length=200)
    count: "models.PositiveIntegerField[int, int]" = models.PositiveIntegerField()
