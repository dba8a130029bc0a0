/** Tells, below `policy history --help`, where history comes from and how its times are spelled. */
export const HISTORY_MANUAL = `
Where history comes from
  --evidence DIR    the log that a collector keeps (DATA/evidence): every version of every object
                    that decides, and every sort of pod, since it first ran. It is read as it
                    stands; "wireproof evidence verify" tells whether it is whole.
  --manifests DIR   a folder in a git repository: its commits on the way to HEAD, and the files
                    as they stand now.

How a time is spelled
  2026-11-22T10:00:00Z, 2026-11-22 (its begin, UTC), 90m, 2h, 7d (ago), now;
  with --manifests any revision of git's: HEAD~1, v1.2, 1a2b3c4

Examples
  wireproof policy history --evidence /var/lib/wireproof/evidence PeerAuthentication/pay
  wireproof policy history --manifests deploy/policies --at 2026-11-01
  wireproof policy diff --evidence /var/lib/wireproof/evidence --from 24h
  wireproof policy diff --manifests deploy/policies --from origin/main --to HEAD
`;
