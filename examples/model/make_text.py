#!/usr/bin/env python3
"""Generator of the synthetic logbooks the model is trained on.

A logbook is a title line, many log lines in time order, an empty line, and
questions.  A question is the beginning of a log line, the answer its rest:

    Logbook of team 4
    06:02 temp Oslo 84 C
    06:05 pump Lima checked by Mira
    ...

    Q: temp Oslo 84 C

Every value is drawn at random, so an answer cannot be guessed: it has to be
fetched from the one line of the log that holds it.  A site occurs
once per log, and so does every time of day, so each question has
exactly one right answer.

    make_text.py --example --tokens 1800 --seed 7            # a prompt
    make_text.py --example --tokens 1800 --seed 7 --answer   # its answer
"""
import argparse
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# Where the sites stand.  Each is one token, and is spoken of once per log.
SITES = """
    Oslo Rome Paris Lima Cairo Delhi Tokyo Seoul Hanoi Quito Bern Wien
    Prague Riga Vilnius Tallinn Dublin Cork Leeds York Bath Derby Lyon
    Nice Lille Brest Metz Turin Milan Genoa Pisa Siena Bari Palermo
    Porto Braga Faro Lisbon Madrid Toledo Leon Cadiz Malaga Bilbao Vigo
    Athens Patras Sofia Varna Skopje Tirana Zagreb Split Zadar Graz Linz
    Bonn Essen Mainz Kiel Bremen Ulm Jena Gera Halle Erfurt Basel Geneva
    Lugano Thun Gent Liege Namur Delft Breda Utrecht Odense Aarhus Malmo
    Lund Umea Kalmar Bergen Tromso Bodo Molde Turku Oulu Espoo Vaasa
    Kyiv Odesa Lviv Minsk Brno Gdansk Krakow Lublin Torun Radom Pecs
    Eger Arad Cluj Iasi Ankara Izmir Bursa Konya Adana Dakar Accra Lagos
    Abuja Nairobi Kampala Lusaka Harare Maputo Luanda Tunis Rabat Fez
    Sfax Amman Doha Muscat Dubai Mumbai Pune Surat Agra Patna Kochi
    Dhaka Manila Cebu Davao Osaka Kobe Nara Kyoto Sendai Busan Daegu
    Perth Darwin Cairns Hobart Suva Apia Bogota Cali Cuzco Sucre Salta
    Recife Natal Belem Havana Austin Dallas Tampa Reno Boise Omaha Fargo
    Tulsa Regina Halifax
""".split()
UNITS = {"temp": "C", "level": "%", "speed": "rpm", "pressure": "bar",
         "power": "W", "flow": "l/s"}
PARTS = ["pump", "valve", "fan"]
ACTIONS = ["checked", "cleaned", "changed", "repaired"]
PEOPLE = ["Mira", "Jonas", "Aisha", "Pavel", "Lena", "Tomas", "Yuki", "Omar",
          "Ines", "Karl", "Nadia", "Bruno", "Signe", "Ravi", "Elif", "Hugo"]
SUBJECTS = list(UNITS) + PARTS

# How often a question asks for a line by its time instead of by its subject.
TIME_SHARE = 0.05


def reading(rng, subject):
    """A random value for what a key is about."""
    if subject in PARTS:
        return f"{rng.choice(ACTIONS)} by {rng.choice(PEOPLE)}"
    if subject == "pressure":
        value = f"{rng.randint(1, 9)}.{rng.randint(0, 9)}"
    elif subject in ("speed", "power"):
        value = str(rng.randint(100, 999))
    else:
        value = str(rng.randint(10, 99))
    return f"{value} {UNITS[subject]}"


def make_facts(rng, n):
    """n log lines as (time, key, value), in time order, no site or time twice."""
    minutes = sorted(rng.sample(range(24 * 60), n))
    facts = []
    for m, site in zip(minutes, rng.sample(SITES, n)):
        subject = rng.choice(SUBJECTS)
        facts.append((f"{m // 60:02d}:{m % 60:02d}", f"{subject} {site}",
                      reading(rng, subject)))
    return facts


def log_text(rng, facts):
    lines = [f"Logbook of team {rng.randint(1, 9)}"]
    lines += [f"{t} {k} {v}" for t, k, v in facts]
    return "\n".join(lines) + "\n\n"


def question(fact, by_time):
    """(prompt part, answer): the model goes on right behind the prompt part."""
    t, k, v = fact
    if by_time:
        return f"Q: {t}", f" {k} {v}\n"
    return f"Q: {k}", f" {v}\n"


def make_document(rng, n_lines, n_questions):
    """One training text: a log and several questions with answers."""
    facts = make_facts(rng, n_lines)
    text = log_text(rng, facts)
    for fact in rng.sample(facts, min(n_questions, n_lines)):
        q, a = question(fact, rng.random() < TIME_SHARE)
        text += q + a
    return text


def make_prompt(rng, count_tokens, tokens, part=None, by_time=False):
    """(prompt, answer, asked line) with one question, at most `tokens` tokens.

    part = (low, high) places the asked line in that share of the log, so
    (0, 0.25) asks for something in its first quarter.  count_tokens is the
    tokenizer's length function.
    """
    low, high = part or (0.0, 1.0)
    # The log is cut to length, not stretched: make one that is surely too
    # long, then drop lines from its end until the question fits too.
    facts = make_facts(rng, min(tokens // 10 + 4, len(SITES)))
    title_seed = rng.random()
    place = low + (high - low) * rng.random()

    def build(n):
        fact = facts[min(int(place * n), n - 1)]
        q, a = question(fact, by_time)
        return log_text(random.Random(title_seed), facts[:n]) + q, a, fact

    lo, hi = 1, len(facts)          # largest n that fits, by bisection
    while lo < hi:
        mid = (lo + hi + 1) // 2
        if count_tokens(build(mid)[0]) + 1 <= tokens:   # + 1 for <s>
            lo = mid
        else:
            hi = mid - 1
    return build(lo)


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("--example", action="store_true",
                    help="print one prompt that ends where the model goes on")
    ap.add_argument("--tokens", type=int, default=1800)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--kind", choices=["subject", "time"], default="subject")
    ap.add_argument("--answer", action="store_true",
                    help="print the expected answer instead of the prompt")
    ap.add_argument("--tokenizer", default=os.path.join(HERE, "tokenizer.model"))
    args = ap.parse_args()
    rng = random.Random(args.seed)
    if not args.example:            # a look at the training text
        sys.stdout.write(make_document(rng, max(args.tokens // 14, 2), 4))
        return
    import sentencepiece
    sp = sentencepiece.SentencePieceProcessor(model_file=args.tokenizer)
    prompt, answer, _ = make_prompt(rng, lambda s: len(sp.encode(s)),
                                    args.tokens, part=(0.0, 0.25),
                                    by_time=args.kind == "time")
    sys.stdout.write(answer.strip() + "\n" if args.answer else prompt)


if __name__ == "__main__":
    main()
