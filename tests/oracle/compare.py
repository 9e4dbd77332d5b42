#!/usr/bin/env python3
"""Compares two files in the format of `kvr eval`: compare.py GOT EXPECTED TOLERANCE. Exit code 1 when they differ."""
import sys


def load(path):
    steps, greedy = [], None
    for line in open(path):
        words = line.split()
        if words[:1] == ["step"]:
            pairs = words[words.index("top") + 1:words.index("sum")]
            steps.append((words[3], {k: float(v) for k, v in (p.split(":") for p in pairs)}))
        elif words[:1] == ["greedy"]:
            greedy = words[1:]
    return steps, greedy


def main():
    (got, got_ids), (expected, expected_ids) = load(sys.argv[1]), load(sys.argv[2])
    worst, uncompared = 0.0, 0
    for (token, a), (expected_token, b) in zip(got, expected):
        assert token == expected_token, "not the same tokens were fed"
        for k, v in b.items():
            if k in a:
                worst = max(worst, abs(v - a[k]))
            else:
                uncompared += 1
    ok = worst <= float(sys.argv[3]) and got_ids == expected_ids and len(got) == len(expected)
    print(f"{len(got)} steps of {len(expected)}, largest difference {worst:.6f}, {uncompared} ids not in both lists, "
          f"greedy ids {'equal' if got_ids == expected_ids else 'differ'}: {'ok' if ok else 'FAILED'}")
    return 0 if ok else 1


sys.exit(main())
