"""Changes an Iceberg table as another engine, with PyIceberg.

usage: evolve.py <catalog.db> <warehouse> <namespace.table> <step>
"""

import sys

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import StringType


def main():
    database, warehouse, name, step = sys.argv[1:]
    catalog = SqlCatalog("frazil", uri=f"sqlite:///{database}", warehouse=warehouse)
    table = catalog.load_table(name)
    if step == "partition":
        with table.update_spec() as spec:
            spec.add_field("region", IdentityTransform(), "by region")
    elif step == "partition again":
        with table.update_spec() as spec:
            spec.remove_field("by region")
            spec.add_field("id", BucketTransform(8), "by_8")
    elif step == "column":
        with table.update_schema() as schema:
            schema.add_column("remark", StringType())
            schema.move_first("remark")
    elif step == "rewrite":
        # Copy on write: data files are replaced.
        table.delete(EqualTo("id", 3))
    else:
        raise ValueError(step)


main()
