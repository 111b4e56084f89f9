import uuid

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0003_rereads_and_run_words'),
    ]

    operations = [
        migrations.AddField(
            model_name='exchangecredential',
            name='version',
            field=models.UUIDField(default=uuid.uuid4, editable=False),
        ),
    ]
