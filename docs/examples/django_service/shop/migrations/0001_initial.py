"""The shop's table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """From nothing."""

    initial = True
    operations = [  # noqa: RUF012 # Django's own way to say it
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(primary_key=True, serialize=False, auto_created=True, verbose_name="ID"),
                ),
                ("item", models.CharField(max_length=200)),
                ("count", models.PositiveIntegerField()),
            ],
        ),
    ]
