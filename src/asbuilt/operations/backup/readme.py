"""What lies beside the backups for whoever has nothing but them."""

from __future__ import annotations

from typing import Final

KEY: Final = "README.txt"
TEXT: Final = """\
Backups of one environment, made by asbuilt. Everything is compressed with zstd and encrypted with age, and
can be restored with standard tools and PostgreSQL alone. You need a key (a line AGE-SECRET-KEY-1...) that
was printed by `asbuilt backup ENV key` or belongs to a recipient of the spec.

1. Choose a backup: base/ID/backup.json says when it was taken (`ended`), on which timeline, and which
   version of PostgreSQL made it. The same major version restores it.

2. Unpack it into an empty folder that only you can enter:

       mkdir -m 700 data
       age -d -i KEYFILE base/ID/base.tar.zst.age | zstd -d | tar -x -C data

3. Unpack the log that was written since: every file of wal/ from the segment named in data/backup_label.

       mkdir wal
       for f in wal-from-here/*/*.zst.age; do
           age -d -i KEYFILE "$f" | zstd -d > wal/$(basename "$f" .zst.age); done

   SEGMENT.OFFSET-END are pieces (bytes OFFSET to END, in hexadecimal) of a segment that was not full yet:
   write them over each other into one file and fill it with zeros to 16 MB (truncate -s 16M FILE).
   TTTTTTTT.history are the histories of timelines.

4. Say where the log is, and up to when you want to go (leave recovery_target_time out for everything):

       cat >> data/postgresql.auto.conf <<END
       restore_command = 'cp /PATH/TO/wal/%f %p'
       recovery_target_time = '2026-01-31 12:00:00+00'
       recovery_target_action = 'promote'
       END
       touch data/recovery.signal

   In data, replace postgresql.conf and pg_hba.conf by ones of your own: those of the environment name
   addresses of its machine. max_connections must be at least what it was.

5. Start it: postgres -D data. It replays the log and then takes connections. The row with the backup's id
   in the table asbuilt.backup_marks (database postgres) proves that it is whole.

The cache (cache/ID): one dump, which a server of the same or a later version loads.

       age -d -i KEYFILE cache/ID/dump.rdb.zst.age | zstd -d > dump.rdb

   Name it in `dbfilename` of a server without an append-only file, or let redis-check-rdb read it.

Files and objects (files/ID, objects/ID): a manifest of JSON lines, and pieces of content that all share.

       age -d -i KEYFILE files/ID/manifest.jsonl.zst.age | zstd -d > manifest.jsonl

   The first line tells of the copy. Each other one has a `path` (of an object its key), a `kind`, `size`,
   `mode`, `mtime` in nanoseconds, of a link its `target`, of an object its `headers`, and `blobs`: the pieces
   of its content, in order. One file by hand, here with jq:

       jq -r 'select(.path == "avatars/1.png") | .blobs[]' manifest.jsonl | while read b; do
           age -d -i KEYFILE blobs/$(echo $b | cut -c1-2)/$b.zst.age | zstd -d; done > 1.png

   The name of a piece is the HMAC-SHA256 of its content; its key is in the first line:

       openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY PIECE
"""
