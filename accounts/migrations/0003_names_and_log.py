import accounts.models
from django.core.management import CommandError
from django.db import migrations, models
from django.db.models import Count
from django.db.models.functions import Lower


def refuse_twins(apps, schema_editor):
    """Says what to do where the constraint below could not be added."""
    people = apps.get_model("accounts", "User").objects.using(schema_editor.connection.alias)
    lowered = people.annotate(lowered=Lower("username"))
    twins = lowered.values("lowered").annotate(count=Count("pk")).filter(count__gt=1).values("lowered")
    if names := list(lowered.filter(lowered__in=twins).order_by("lowered", "pk").values_list("username", flat=True)):
        name = names[-1]
        raise CommandError(
            f"Some names differ only in upper and lower case: {', '.join(names)}. Nothing was changed. Give all but one "
            'of them another name, as: manage.py shell -c "from accounts.models import User; '
            f"User.objects.filter(username='{name}').update(username='{name}2')\"; then migrate again."
        )


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_joining_and_audit'),
    ]

    operations = [
        migrations.RunPython(refuse_twins, migrations.RunPython.noop, elidable=True),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(Lower('username'), name='one_of_each_name', violation_error_message='Somebody has this name already.'),
        ),
        migrations.AlterField(
            model_name='apitoken',
            name='name',
            field=models.CharField(max_length=80, validators=[accounts.models.validate_one_line]),
        ),
    ]
