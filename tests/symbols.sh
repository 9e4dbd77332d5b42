#!/usr/bin/env bash
# The core allocates nothing, prints nothing and ends no process: what it references outside itself must be on this
# list.
#   symbols.sh NM ARCHIVE
set -euo pipefail
nm=$1 archive=$2

allowed='
mem(cpy|move|set|cmp|chr)  __mem(cpy|move|set)_chk  str(len|nlen|cmp|ncmp|chr|rchr|str)
(exp|exp2|log|log2|sqrt|sin|cos|sincos|tan|tanh|erf|pow|ldexp|frexp|scalbn)f?
(fabs|floor|ceil|round|rint|nearbyint|trunc|fmin|fmax)f?
l?l(rint|round)f?  utf8proc_[a-z0-9_]+
__assert_fail
__stack_chk_fail  _GLOBAL_OFFSET_TABLE_  __aeabi_[a-z0-9_]+  __gnu_[a-z0-9]+_ieee
__u?(div|mod|mul|divmod)[sdt]i[34]  __(clz|ctz|ffs|popcount|ashl|ashr|lshr|bswap)[sdt]i[23]
__(fix|float|trunc|extend)[a-z0-9]+
'
# assert only checks programmers, in debug builds; the last three lines are the compiler's own helpers.

symbols=$("$nm" -P "$archive")
[ -n "$symbols" ] || { echo "nm found no symbols in $archive"; exit 1; }
defined=$(awk '$2 ~ /^[A-Za-z]$/ && $2 != "U" { print $1 }' <<<"$symbols" | sort -u)
undefined=$(awk '$2 == "U" { print $1 }' <<<"$symbols" | sort -u)

pattern=$(tr -s ' \n' '||' <<<"$allowed" | sed 's/^|*//; s/|*$//')
foreign=$(comm -23 <(echo "$undefined") <(echo "$defined") | grep -vE "^($pattern)$" || true)

# Mutable globals: nothing in .data or .bss (.data.rel.ro is constant tables of addresses).
mutable=$("$nm" -f sysv "$archive" | awk -F'|' '{ gsub(/ /, ""); section = $7 }
    section ~ /^\.(data|bss|tdata|tbss)/ && section !~ /^\.data\.rel\.ro/ && $1 !~ /^[.$]/ { print $1 }')

for name in $foreign; do
    users=$("$nm" -P -A "$archive" | awk -v n="$name" '$2 == n && $3 == "U" { print $1 }' |
        sed 's/.*\[\(.*\)\]:*/\1/' | sort -u | tr '\n' ' ')
    echo "not on the list: $name, used by $users"
done
for name in $mutable; do echo "a global that can change: $name"; done
[ -z "$foreign$mutable" ] || exit 1
echo "$(comm -23 <(echo "$undefined") <(echo "$defined") | wc -l) outside symbols, all on the list; no mutable globals"
