"""The Iceberg sinks of a point: one a relation, each with a format version drawn for the point."""

PARTITIONS = (None, "bucket(4, id)")


class Sinks:
    """What is written where: relation -> (type, key, format version, partitions)."""

    def __init__(self, folder, random):
        self.folder = folder
        self.choices = {
            "items": ("upsert", "id", random.choice([2, 3]), random.choice(PARTITIONS)),
            "totals": ("upsert", "grp", random.choice([2, 3]), None),
            "clicks": ("append-only", None, random.choice([2, 3]), random.choice(PARTITIONS)),
        }

    def ddl(self):
        for relation, (kind, key, version, partition) in self.choices.items():
            primary_key = f" primary_key = '{key}'," if key else ""
            partition_by = f", partition_by = '{partition}'" if partition else ""
            yield (
                f"CREATE SINK IF NOT EXISTS {relation}_lake FROM {relation} WITH"
                f" (connector = 'iceberg', type = '{kind}',{primary_key} catalog.type = 'sql',"
                f" catalog.uri = 'sqlite://{self.folder}/catalog.db',"
                f" warehouse.path = '{self.folder}', database.name = 'shop',"
                f" table.name = '{relation}', commit_interval = '50ms',"
                f" create_table_if_not_exists = true, format_version = '{version}'{partition_by})"
            )

    def __str__(self):
        def spell(relation, choice):
            return f"{relation} v{choice[2]}" + (" by bucket" if choice[3] else "")

        return ", ".join(spell(*pair) for pair in self.choices.items())
