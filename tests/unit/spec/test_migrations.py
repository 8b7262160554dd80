"""Migrations as frameworks write them: what the release before can't live with is found, and nothing else."""

from __future__ import annotations

import time
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.spec.migrations.judge import Finding, judge
from asbuilt.spec.migrations.kinds import Kind, find_kind, read_script
from asbuilt.spec.migrations.rules import Weight
from asbuilt.spec.migrations.types import judge_types

if TYPE_CHECKING:
    from asbuilt.spec.migrations.change import Script
    from asbuilt.spec.migrations.django import Fields

PRISMA = "prisma/migrations/20260101_x/migration.sql"
ALEMBIC = "shop/alembic/versions/4f_x.py"
DJANGO = "orders/migrations/0002_x.py"
KNEX = "migrations/20260101_x.js"


def read(path: str, text: str) -> Script:
    return read_script(path, dedent(text), {})


def find(path: str, text: str) -> list[Finding]:
    return judge([read(path, text)], "r7")


def say(path: str, text: str) -> list[str]:
    return [f"{one.code} {one.line} {one.what}" for one in find(path, text)]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("prisma/migrations/1_init/migration.sql", Kind.SQL),
        ("db/migrate/001_x.sql", Kind.SQL),
        ("db/migrations/deep/er/001_x.up.sql", Kind.SQL),
        ("src/main/resources/db/migration/V2__x.sql", Kind.SQL),
        ("migrations/1_x.ts", Kind.SCRIPT),
        ("orders/migrations/0001_initial.py", Kind.PYTHON),
        ("alembic/versions/abc.py", Kind.PYTHON),
        ("db/migrations/001_x.down.sql", None),
        ("migrations/2026_x/down.sql", None),
        ("migrations/2026_x_down.sql", None),
        ("migrations/down/1.sql", None),
        ("db/migration/U2__x.sql", None),
        ("migrations/types.d.ts", None),
        ("migrations/README.md", None),
        ("db/schema.sql", None),
        ("versions/x.sql", None),
        ("migrations.sql", None),
        ("", None),
    ],
)
def test_migrations_are_known_by_their_place(path: str, kind: Kind | None) -> None:
    assert find_kind(path) == kind


def test_prisma() -> None:
    text = """\
    -- Warnings: DROP TABLE "Legacy" loses data
    /* DROP TABLE nothing; /* nested */ */
    -- CreateTable
    CREATE TABLE "Invoice" ("id" SERIAL NOT NULL, CONSTRAINT "Invoice_pkey" PRIMARY KEY ("id"));
    -- AlterTable
    ALTER TABLE "User" DROP COLUMN "legacyId",
    ADD COLUMN     "tenant" TEXT NOT NULL,
    ADD COLUMN     "score" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN     "note" TEXT,
    ALTER COLUMN "email" SET NOT NULL,
    ALTER COLUMN "age" SET DATA TYPE BIGINT;
    -- CreateIndex
    CREATE UNIQUE INDEX "User_email_key" ON "User"("email");
    CREATE INDEX "Invoice_id" ON "Invoice"("id");
    -- AddForeignKey
    ALTER TABLE "Post" ADD CONSTRAINT "fk" FOREIGN KEY ("authorId") REFERENCES "User"("id");
    ALTER TABLE "public"."Old" RENAME TO "New";
    DROP TABLE IF EXISTS "a", "public"."b" CASCADE;
    """
    assert say(PRISMA, text) == [
        "MIGRATE-002 6 drops the column legacyid of user",
        "MIGRATE-005 7 adds the column tenant of user, NOT NULL without a default in the database",
        "MIGRATE-006 10 makes the column email of user NOT NULL",
        "MIGRATE-004 11 changes the type of the column age of user to bigint",
        "MIGRATE-009 13 makes an index on user that writes wait for",
        "MIGRATE-007 13 adds a constraint to user (unique)",
        "MIGRATE-007 16 adds a constraint to post (foreign key)",
        "MIGRATE-003 17 renames old to new",
        "MIGRATE-001 18 drops a",
        "MIGRATE-001 18 drops b",
    ]


def test_dbmate_is_read_up_to_its_way_down() -> None:
    text = """\
    -- migrate:up transaction:false
    ALTER TABLE orders ADD COLUMN status text DEFAULT 'DROP TABLE orders;' NOT NULL;
    ALTER TABLE orders ALTER COLUMN status SET NOT NULL;
    INSERT INTO notes VALUES ('it''s; DROP TABLE orders', E'a\\'; DROP TABLE x', $q$ DROP TABLE y; $q$);
    CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_status ON ONLY orders (status DESC NULLS LAST);
    CREATE UNIQUE INDEX CONCURRENTLY ON orders (status);
    ALTER TABLE orders ALTER total TYPE numeric(12, 2) USING total::numeric, RENAME ref TO reference;

    -- migrate:down
    DROP TABLE orders;
    -- migrate:up
    DROP VIEW gone;
    """
    assert say("db/migrations/1.sql", text) == [
        "MIGRATE-004 7 changes the type of the column total of orders to numeric(12,2)",
        "MIGRATE-003 7 renames the column ref of orders to reference",
        "MIGRATE-001 12 drops gone",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE a (x int); ALTER TABLE a DROP COLUMN x; ALTER TABLE a RENAME TO b; DROP TABLE a;",
        "CREATE TABLE IF NOT EXISTS s.a (x int); CREATE INDEX ON s.a (x); ALTER TABLE a ADD UNIQUE (x);",
        "ALTER TABLE a ADD COLUMN x int; ALTER TABLE a DROP COLUMN x;",
        "ALTER TABLE a ADD COLUMN x int CHECK (x IS NOT NULL OR y > 0);",
        "ALTER TABLE a ADD x bigserial NOT NULL, ADD y int GENERATED ALWAYS AS (z + 1) STORED NOT NULL;",
        "ALTER TABLE a ADD x int; ALTER TABLE a ALTER x SET DEFAULT 1; ALTER TABLE a ALTER x SET NOT NULL;",
        "ALTER TABLE a ADD x int; ALTER TABLE a ADD CONSTRAINT k UNIQUE (x);",
        "ALTER TABLE a ADD CONSTRAINT k UNIQUE USING INDEX i;",
        "ALTER TABLE a RENAME CONSTRAINT k TO l; ALTER TABLE a VALIDATE CONSTRAINT k;",
        "DROP VIEW v; CREATE VIEW v AS SELECT 1;",
        "DROP INDEX i; ALTER INDEX i RENAME TO j; ALTER TYPE mood ADD VALUE 'fine';",
        "CREATE FUNCTION f() RETURNS void AS $$ BEGIN DROP TABLE orders; END $$ LANGUAGE plpgsql;",
        "SELECT 'DROP TABLE a;'; SELECT \"DROP TABLE a;\"; -- DROP TABLE a;",
        "UPDATE a SET drop = 1; DELETE FROM a;",
        "",
        ";;;",
    ],
)
def test_what_no_older_release_can_miss_is_not_said(text: str) -> None:
    assert say(PRISMA, text) == []


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("DO $$ BEGIN IF true THEN ALTER TABLE a DROP x; END IF; END $$;", ["MIGRATE-002"]),
        ("DROP TABLE orders; CREATE TABLE orders (id int); ALTER TABLE orders DROP id;", ["MIGRATE-001"]),
        ("ALTER TABLE a DROP CONSTRAINT IF EXISTS k, ALTER x DROP DEFAULT", ["MIGRATE-008"] * 2),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", ["MIGRATE-003"]),
        ("ALTER TABLE a SET SCHEMA archive", ["MIGRATE-003"]),
        ("ALTER TABLE a ADD id uuid PRIMARY KEY", ["MIGRATE-005"]),
        ("ALTER TABLE a ADD PRIMARY KEY (id), ADD CHECK (x > 0)", ["MIGRATE-007"] * 2),
        ("ALTER TABLE a ADD x int; ALTER TABLE a ALTER x SET NOT NULL", ["MIGRATE-006"]),
        ("drop materialized view v", ["MIGRATE-001"]),
        ("alter\n table\n if exists only\n `a` /* x */ drop -- y\n column if exists `b`", ["MIGRATE-002"]),
    ],
)
def test_statements(text: str, codes: list[str]) -> None:
    assert [one.code for one in find(PRISMA, text)] == codes


ALEMBIC_TEXT = '''\
"""orders

Revision ID: 4f
"""
from alembic import op
import sqlalchemy as sa

def _tidy():
    op.drop_table("carts")

def upgrade() -> None:
    op.create_table("refunds", sa.Column("id", sa.Integer(), nullable=False))
    op.create_index("ix", "refunds", ["id"])
    op.drop_column("orders", "legacy_id")
    op.add_column("orders", sa.Column("tenant", sa.Text(), nullable=False))
    op.add_column("orders", sa.Column("score", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("orders", sa.Column("note", sa.Text()))
    op.alter_column("orders", "ref", new_column_name="reference", nullable=False)
    op.alter_column("orders", "name", existing_type=sa.String(20), type_=sa.String(length=80))
    op.alter_column("orders", "code", existing_type=sa.String(20), type_=sa.String(8))
    op.alter_column("orders", "n", existing_type=sa.Integer(), type_=sa.BigInteger())
    op.create_unique_constraint("uq", "orders", ["ref"])
    op.create_unique_constraint("uq2", "orders", ["note"])
    op.create_foreign_key("fk", "orders", "users", ["user_id"], ["id"])
    op.create_index("ix2", "orders", ["ref"], unique=True, postgresql_concurrently=True)
    op.rename_table("users", "people")
    with op.batch_alter_table("items") as batch_op:
        batch_op.drop_column("weight")
        batch_op.add_column(sa.Column("size", sa.Integer(), nullable=False))
        batch_op.alter_column("price", nullable=False)
        batch_op.create_unique_constraint("uq3", ["price"])
        batch_op.drop_constraint("old", type_="unique")
    op.execute(sa.text("""
        ALTER TABLE orders
        DROP COLUMN total
    """))
    _tidy()

def downgrade() -> None:
    op.drop_table("refunds")
    op.drop_column("orders", "tenant")
'''


def test_alembic() -> None:
    assert say(ALEMBIC, ALEMBIC_TEXT) == [
        "MIGRATE-001 9 drops carts",
        "MIGRATE-002 14 drops the column legacy_id of orders",
        "MIGRATE-005 15 adds the column tenant of orders, NOT NULL without a default in the database",
        "MIGRATE-003 18 renames the column ref of orders to reference",
        "MIGRATE-006 18 makes the column ref of orders NOT NULL",
        "MIGRATE-004 20 changes the type of the column code of orders to string(8)",
        "MIGRATE-009 21 widens the column n of orders to biginteger, which writes the whole table again",
        "MIGRATE-007 22 adds a constraint to orders (unique)",
        "MIGRATE-007 24 adds a constraint to orders (foreign key)",
        "MIGRATE-007 25 adds a constraint to orders (unique)",
        "MIGRATE-003 26 renames users to people",
        "MIGRATE-002 28 drops the column weight of items",
        "MIGRATE-005 29 adds the column size of items, NOT NULL without a default in the database",
        "MIGRATE-006 30 makes the column price of items NOT NULL",
        "MIGRATE-007 31 adds a constraint to items (unique)",
        "MIGRATE-008 32 drops the constraint old of items",
        "MIGRATE-002 35 drops the column total of orders",
    ]


def test_alembic_revisions_may_stand_in_any_order() -> None:
    makes = read("versions/ff.py", "from alembic import op\ndef upgrade():\n  op.create_table('a')")
    drops = read("versions/00.py", "from alembic import op as o\ndef upgrade():\n  o.drop_column('a', 'x')")
    assert judge([drops, makes], "r1") == []
    assert len(judge([drops], "r1")) == 1


DJANGO_FIRST = """\
from django.db import migrations, models

class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("ref", models.CharField(max_length=40, null=True)),
                ("code", models.CharField(max_length=40)),
                ("n", models.IntegerField()),
            ],
        ),
    ]
"""
DJANGO_SECOND = """\
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]
    operations = [
        migrations.CreateModel("Refund", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddField("refund", "x", models.TextField()),
        migrations.RemoveField(model_name="order", name="legacy"),
        migrations.AddField(model_name="order", name="a", field=models.TextField()),
        migrations.AddField("order", "b", models.TextField(default="")),
        migrations.AddField("order", "c", models.TextField(null=True)),
        migrations.AddField("order", "d", models.TextField(db_default="")),
        migrations.AddField("order", "e", models.ManyToManyField(to="orders.Tag")),
        migrations.AlterField("order", "ref", models.CharField(max_length=40, help_text="new")),
        migrations.AlterField("order", "code", models.CharField(max_length=80, choices=[("a", "b")])),
        migrations.AlterField("order", "n", models.TextField(unique=True)),
        migrations.AlterField("order", "unknown", models.TextField()),
        migrations.RenameField("order", "old", "new"),
        migrations.RenameModel("Cart", "Basket"),
        migrations.DeleteModel(name="Tag"),
        migrations.AlterUniqueTogether(name="order", unique_together={("ref", "code")}),
        migrations.AlterUniqueTogether(name="order", unique_together=set()),
        migrations.AddConstraint("order", models.CheckConstraint(check=models.Q(n__gt=0), name="k")),
        migrations.AddIndex("order", models.Index(fields=["ref"], name="i")),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField("order", "kept")],
            database_operations=[migrations.RunSQL("ALTER TABLE orders_order DROP COLUMN w", "SELECT 1")],
        ),
        migrations.RunSQL(sql=[("UPDATE x SET y = %s", [1]), "DROP TABLE z"], reverse_sql="DROP TABLE no"),
        migrations.RunPython(lambda apps, editor: None),
    ]
"""


def test_django() -> None:
    fields: Fields = {}
    read_script("orders/migrations/0001_initial.py", DJANGO_FIRST, fields)
    script = read_script(DJANGO, DJANGO_SECOND, fields)
    assert [f"{one.code} {one.line} {one.weight} {one.what[:74]}" for one in judge([script], "r7")] == [
        "MIGRATE-002 8 breaks drops the column legacy of orders.order",
        "MIGRATE-005 9 breaks adds the column a of orders.order, NOT NULL without a default in the datab",
        "MIGRATE-005 10 risks adds the column b of orders.order, NOT NULL with a default that only Djang",
        "MIGRATE-006 14 breaks makes the column ref of orders.order NOT NULL",
        "MIGRATE-004 16 risks changes the type of the column n of orders.order to TextField",
        "MIGRATE-007 16 risks adds a constraint to orders.order (unique)",
        "MIGRATE-003 18 breaks renames the column old of orders.order to new",
        "MIGRATE-003 19 breaks renames orders.cart to basket",
        "MIGRATE-001 20 breaks drops orders.tag",
        "MIGRATE-007 21 risks adds a constraint to orders.order (unique)",
        "MIGRATE-007 23 risks adds a constraint to orders.order (check)",
        "MIGRATE-009 24 blocks makes an index on orders.order that writes wait for",
        "MIGRATE-002 27 breaks drops the column w of orders_order",
        "MIGRATE-001 29 breaks drops z",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            """\
            exports.up = async function (knex) {
              // t.dropColumn('comment')
              await knex.schema.createTable('fresh', (t) => { t.increments('id'); });
              await knex.schema.alterTable('users', (t) => {
                t.dropColumn('legacy');
                t.dropColumns('a', 'b');
                t.renameColumn('old', 'new');
                t.dropNullable('email');
              });
              await knex.schema.dropTableIfExists('carts').renameTable('x', 'y');
              await knex.schema.table('fresh', (t) => t.dropColumn('id'));
              await knex.raw(`ALTER TABLE users
                DROP COLUMN age`);
              log("knex.schema.dropTable('users')");
            };
            exports.down = async (knex) => { await knex.schema.dropTable('users'); };
            """,
            [
                "MIGRATE-002 5 drops the column legacy of users",
                "MIGRATE-002 6 drops the column a of users",
                "MIGRATE-002 6 drops the column b of users",
                "MIGRATE-003 7 renames the column old of users to new",
                "MIGRATE-006 8 makes the column email of users NOT NULL",
                "MIGRATE-001 10 drops carts",
                "MIGRATE-003 10 renames x to y",
                "MIGRATE-002 13 drops the column age of users",
            ],
        ),
        (
            """\
            module.exports = {
              async down(queryInterface) { await queryInterface.dropTable('Users'); },
              async up(queryInterface, Sequelize) {
                await queryInterface.removeColumn('Users', 'legacy');
                await queryInterface.renameColumn('Users', 'a', 'b');
                await queryInterface.sequelize.query('DROP TABLE "Carts"');
              },
            };
            """,
            [
                "MIGRATE-002 4 drops the column legacy of users",
                "MIGRATE-003 5 renames the column a of users to b",
                "MIGRATE-001 6 drops carts",
            ],
        ),
        (
            """\
            export const up = (pgm) => {
              pgm.dropColumns('users', ['a', 'b']);
              pgm.dropTable('carts');
              pgm.sql('ALTER TABLE users DROP c');
            };
            export const down = (pgm) => { pgm.dropTable('users'); };
            """,
            [
                "MIGRATE-002 2 drops the column a of users",
                "MIGRATE-002 2 drops the column b of users",
                "MIGRATE-001 3 drops carts",
                "MIGRATE-002 4 drops the column c of users",
            ],
        ),
        (
            """\
            export class X1700000000000 implements MigrationInterface {
              public async up(queryRunner: QueryRunner): Promise<void> {
                await queryRunner.query(`ALTER TABLE "users" DROP COLUMN "age"`);
                await queryRunner.dropColumn("users", "name");
              }
              public async down(queryRunner: QueryRunner): Promise<void> {
                await queryRunner.query(`DROP TABLE "users"`);
              }
            }
            """,
            [
                "MIGRATE-002 3 drops the column age of users",
                "MIGRATE-002 4 drops the column name of users",
            ],
        ),
    ],
    ids=["knex", "sequelize", "node-pg-migrate", "typeorm"],
)
def test_scripts(text: str, said: list[str]) -> None:
    assert say(KNEX, text) == said


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (PRISMA, "-- asbuilt: contract - nothing reads it since r5\nALTER TABLE a DROP x;"),
        (PRISMA, "ALTER TABLE a DROP x; /* asbuilt: contract (nothing reads it since r5) */"),
        (
            KNEX,
            "// asbuilt: contract, nothing reads it since r5\nexports.up = (k) => k.schema.dropTable('a')",
        ),
        (
            ALEMBIC,
            """\
            # asbuilt: contract: nothing reads it since r5
            from alembic import op
            def upgrade():
                op.drop_table('a')
            """,
        ),
        (
            DJANGO,
            """\
            # asbuilt: contract nothing reads it since r5
            class Migration:
                operations = [DeleteModel('a')]
            """,
        ),
    ],
)
def test_a_contract_with_its_reason_is_one_note(path: str, text: str) -> None:
    (found,) = find(path, text)
    assert (found.code, found.weight) == ("MIGRATE-010", Weight.DECLARED)
    assert found.what == "declared as contract: nothing reads it since r5"
    assert "a rollback to r7, are safe only if r7 can live with: drops " in found.effect
    assert found.render().startswith("note[MIGRATE-010] ")


def test_a_contract_without_a_reason_silences_nothing() -> None:
    (found,) = find(PRISMA, "-- asbuilt: contract\nDROP TABLE a;")
    assert found.code == "MIGRATE-001"
    assert "write the reason" in found.hint


def test_a_contract_in_a_string_or_about_nothing_is_none() -> None:
    assert [one.code for one in find(PRISMA, "DROP TABLE a; SELECT '-- asbuilt: contract x'")] == [
        "MIGRATE-001"
    ]
    assert find(PRISMA, "-- asbuilt: contract because\nCREATE INDEX ON a (x);") == []


def test_a_finding_says_what_where_why_and_what_to_do() -> None:
    (found,) = find(PRISMA, "ALTER TABLE orders\n  DROP COLUMN legacy;")
    assert found.render().splitlines()[:3] == [
        "warning[MIGRATE-002] drops the column legacy of orders",
        f"  at {PRISMA}:2",
        "  every query of r7 that names it fails; an ORM names all columns it knows",
    ]
    assert found.render().splitlines()[3].startswith("  hint: stop using it in this release, and drop it in")
    assert set(found.to_json()) == {"code", "weight", "where", "what", "effect", "hint"}


def test_of_a_changed_file_only_what_is_new_is_said() -> None:
    before = read(PRISMA, "CREATE TABLE old (x int);\nDROP TABLE a;\nDROP TABLE b;")
    after = read(
        PRISMA, "-- a comment more\nCREATE TABLE old (x int);\nDROP TABLE a;\nDROP TABLE b;\nDROP TABLE b;"
    )
    later = read("migrations/2.sql", "ALTER TABLE old DROP x;")
    found = judge([after, later], "r7", known={PRISMA: before.changes})
    assert [(one.line, one.what) for one in found] == [
        (5, "drops b"),
        (1, "drops the column x of old"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "act"),
    [
        ("String(20)", "Text", None),
        ("Text", "String(20)", "retype"),
        ("CharField(20)", "CharField(20)", None),
        ("CharField(20)", "TextField", None),
        ("IntegerField", "BigIntegerField", "rewrite"),
        ("BigInteger", "Integer", "retype"),
        ("Integer", "INTEGER", None),
        ("DateField", "DateTimeField", "retype"),
        ("Foo_1", "foo_1", None),
        ("Foo_1", "Foo_2", "retype"),
    ],
)
def test_types(before: str, after: str, act: str | None) -> None:
    assert judge_types(before, after) == act


HOSTILE = {
    "syntax error": "def upgrade(:\n  op.drop_table('a'",
    "binary": "".join(map(chr, range(256))) * 100,
    "open string": "DROP TABLE 'a" * 2000,
    "open quotes": "'\"`$$/*" * 5000,
    "backslashes": "E'" + "\\" * 50001,
    "open comments": "/*" * 100_000,
    "parentheses": "(" * 100_000,
    "nested calls": "f(" * 50_000 + ")" * 50_000,
    "minus": "-" * 100_000 + "1",
    "nested lists": "class Migration:\n  operations = " + "[" * 90 + "]" * 90,
    "sum": "x = " + "+".join(["1"] * 40_000),
    "attributes": "x" + ".a" * 50_000,
    "nested blocks": "".join(" " * n + "if x:\n" for n in range(90)) + " " * 90 + "pass",
    "do in do": "DO $a$ DO $b$ DO $c$ DO $d$ DO $e$ DROP TABLE x $e$ $d$ $c$ $b$ $a$;" * 500,
    "dollars": "$a$ $b$ $" * 20_000,
    "commas": "ALTER TABLE a " + "," * 200_000,
    "many actions": "ALTER TABLE a " + ", ".join(f"DROP c{n}" for n in range(20_000)),
    "one long word": "x" * 900_000,
    "long name": f'DROP TABLE "{"x" * 500_000}";',
    "templates": "exports.up = `${`" * 10_000,
    "huge length": "from alembic import op\ndef upgrade():\n  op.alter_column('a', 'b', type_=String("
    + "9" * 4000 + "), existing_type=String(1))",
}  # fmt: skip


@pytest.mark.parametrize("path", [PRISMA, ALEMBIC, DJANGO, KNEX])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_read_or_passed_over_in_no_time(name: str, path: str) -> None:
    began = time.process_time()
    for one in find(path, HOSTILE[name]):
        assert one.render().isprintable() or "\n" in one.render()
        assert len(one.what) < 200
    assert time.process_time() - began < 5


def test_no_control_character_gets_out() -> None:
    (found,) = find(PRISMA, 'DROP TABLE "a\x1b[2Jb";')
    assert "\x1b" not in found.render()


SQL = """ALTER TABLE DROP COLUMN a "b" , ; ( ) RENAME TO ADD SET NOT NULL TYPE $$ ' /* */ -- DO CREATE UNIQUE
INDEX ON VIEW . CONSTRAINT 1"""
SCRIPT = "op. def : = [ ] exports.up dropColumn( ` AddField( # x"
WORDS = st.sampled_from(
    [
        "from alembic import op\ndef upgrade():\n  op.",
        "class Migration:\n  operations = [",
        "asbuilt: contract",
        *SQL.split(),
        *SCRIPT.split(),
        "\n",
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=40).map(" ".join))


@given(path=st.sampled_from([PRISMA, ALEMBIC, DJANGO, KNEX]), text=TEXTS)
@settings(max_examples=400, deadline=None)
def test_no_text_raises(path: str, text: str) -> None:
    for one in find(path, text):
        assert 1 <= one.line <= text.count("\n") + 1
        assert one.render()


@given(path=st.text(max_size=60))
@settings(deadline=None)
def test_no_path_raises(path: str) -> None:
    find_kind(path)
