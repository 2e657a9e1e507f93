#!/usr/bin/env bash
# Checks the golden vectors with `openssl pkeyutl` and `sha256sum` alone (and other coreutils). Parses the bytes
# itself, certificates too: nothing here knows the Rust code.
set -euo pipefail
shopt -s globstar nullglob
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0

fail() { echo "FAILED: $*" >&2; exit 1; }
slice() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }          # FILE OFFSET LENGTH
hex() { od -An -v -tx1 | tr -d ' \n'; }
unhex() { printf %s "${1^^}" | basenc --base16 -d; }
number() { echo $((16#$(slice "$@" | hex))); }                   # FILE OFFSET LENGTH
sha256() { sha256sum | cut -d' ' -f1; }
label() { unhex "$(printf '%02x' "${#1}")"; printf '%s' "$1"; }   # what signed bytes start with
equal() { [[ "$2" == "$3" ]] || fail "$1: $2 is not $3"; checks=$((checks + 1)); }

# verify NAME KEY SIGNATURE MESSAGE [OPTIONS]: the signature holds, and does not hold for one byte more.
verify() {
  local name=$1 key=$2 signature=$3 message=$4
  shift 4
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$key" -rawin "$@" \
    -sigfile "$signature" -in "$message" >/dev/null 2>&1 || fail "$name: the signature does not verify"
  { cat "$message"; printf x; } >"$work/longer"
  ! openssl pkeyutl -verify -pubin -keyform DER -inkey "$key" -rawin "$@" \
    -sigfile "$signature" -in "$work/longer" >/dev/null 2>&1 || fail "$name: anything verifies"
  checks=$((checks + 2))
}

# signed_document NAME FILE LABEL KEY: a body, then an ECDSA signature with a length of one byte.
signed_document() {
  local size length
  size=$(stat -c %s "$2")
  # DER says how long the signature is; try the possible lengths from the end.
  for length in 72 71 70 69 68; do
    [[ "$(slice "$2" $((size - length - 1)) 2 | hex)" == "$(printf '%02x30' "$length")" ]] && break
  done
  slice "$2" $((size - length)) "$length" >"$work/signature"
  { label "$3"; slice "$2" 0 $((size - length - 1)); } >"$work/message"
  verify "$1" "$4" "$work/signature" "$work/message" -digest sha256
}

# der FILE OFFSET: sets where the content of the DER value at OFFSET starts and where the value ends.
der() {
  local first count=0
  first=$(number "$1" $(($2 + 1)) 1)
  ((first < 128)) || count=$((first - 128))
  content=$(($2 + 2 + count))
  ((count == 0)) || first=$(number "$1" $(($2 + 2)) "$count")
  end=$((content + first))
}

# certificate NAME FILE KEY: the body of a certificate, then an algorithm, then a bit string with the signature.
certificate() {
  local body
  der "$2" 0
  equal "length of the $1" "$end" "$(stat -c %s "$2")"
  body=$content
  der "$2" "$body"
  slice "$2" "$body" $((end - body)) >"$work/message"
  der "$2" "$end"
  der "$2" "$end"
  slice "$2" $((content + 1)) $((end - content - 1)) >"$work/signature"
  verify "$1" "$3" "$work/signature" "$work/message" -digest sha256
}

# public_key FILE OUT: the public key of a certificate, the seventh value of its body: after the version, serial number,
# algorithm, issuer, validity and subject.
public_key() {
  local at
  der "$1" 0
  der "$1" "$content"
  at=$content
  equal "version in $1" "$(slice "$1" "$at" 5 | hex)" a003020102
  for _ in version serial algorithm issuer validity subject; do
    der "$1" "$at"
    at=$end
  done
  der "$1" "$at"
  slice "$1" "$at" $((end - at)) >"$2"
}

# armor FILE LABEL DOCUMENT: begin line, base64 in lines of 64, checksum, end line.
armor() {
  {
    echo "-----BEGIN ENTENTE $2-----"
    base64 --wrap=64 "$3"
    echo "SHA-256: $(sha256 <"$3")"
    echo "-----END ENTENTE $2-----"
  } >"$work/armor"
  equal "armor of $3" "$(sha256 <"$1")" "$(sha256 <"$work/armor")"
}

# Every file is the one that was published, and none is missing from the list.
sha256sum --quiet -c SHA256SUMS >&2 || fail "SHA256SUMS"
equal "files that are listed" "$(cut -c67- SHA256SUMS | sort | tr '\n' ' ')" \
  "$(printf '%s\n' **/*.{bin,der,pk8,txt} | sort | tr '\n' ' ')"

for org in a b; do
  public_key "$org-root.der" "$work/$org-root.DER"
  for name in root issuing; do
    certificate "$name certificate of $org" "$org-$name.der" "$work/$org-root.DER"
  done
  public_key "$org-issuing.der" "$work/$org-issuing.DER"
  signed_document "manifest of $org" "$org-manifest.bin" "entente manifest" "$work/$org-issuing.DER"
  equal "fingerprint of $org" "$(tr -d ' \n' <"$org-fingerprint.txt")" "$(sha256 <"$org-root.der")"

  # Format, server name, serial, time, issuing certificate, then the list of envelope keys.
  name=$(number "$org-manifest.bin" 2 1)
  certificate=$((2 + 1 + name + 8 + 8))
  length=$(number "$org-manifest.bin" "$certificate" 2)
  equal "certificate in the manifest of $org" \
    "$(slice "$org-manifest.bin" $((certificate + 2)) "$length" | sha256)" "$(sha256 <"$org-issuing.der")"
  key=$((certificate + 2 + length + 4))
  slice "$org-manifest.bin" "$key" 32 >"$work/$org-key"
  { unhex 302a300506032b6570032100; cat "$work/$org-key"; } >"$work/$org-envelope.DER"
  sha256 <"$work/$org-key" | head -c 16 >"$work/$org-key-id"
done

# header FILE OFFSET: sets the offsets of a header's fields, relative to the file.
header() {
  origin=$(($2 + 4))
  origin_length=$(number "$1" "$origin" 1)
  destination=$((origin + 1 + origin_length))
  destination_length=$(number "$1" "$destination" 1)
  key_id=$((destination + 1 + destination_length))
  payload_length=$(number "$1" $((key_id + 8 + 8 + 16 + 8 + 8 + 8)) 4)
  payload_hash=$((key_id + 8 + 8 + 16 + 8 + 8 + 8 + 4))
  payload=$((payload_hash + 32))
}

leaf() { { unhex 00; slice "$1" "$2" $((payload - $2)); } | sha256; }
node() { unhex "01$1$2" | sha256; }
position() {
  { unhex 02; slice "$1" $(($2 + 2)) $((key_id - $2 - 2)); slice "$1" $((key_id + 8)) $((payload - key_id - 8)); } | sha256
}

# root_message FILE OFFSET SIZE ROOT: what the signature of a transaction is over.
root_message() {
  label "entente transaction"
  slice "$1" "$2" 3                                       # version, suite
  slice "$1" "$origin" $((key_id - origin))               # origin, destination
  slice "$1" $((key_id + 8)) 8                            # link epoch
  unhex "$(printf '%08x' "$3")$4"
}

# The transaction: version, suite, signature, length, envelopes.
file=transaction.bin
size=$(stat -c %s "$file")
equal "length of the transaction" $((71 + $(number "$file" 67 4))) "$size"
slice "$file" 3 64 >"$work/signature"
at=71
leaves=() positions=()
while ((at < size)); do
  header "$file" "$at"
  equal "key id of envelope ${#leaves[@]}" "$(slice "$file" "$key_id" 8 | hex)" "$(cat "$work/a-key-id")"
  equal "payload hash of envelope ${#leaves[@]}" \
    "$(slice "$file" "$payload_hash" 32 | hex)" "$(slice "$file" "$payload" "$payload_length" | sha256)"
  leaves+=("$(leaf "$file" "$at")")
  positions+=("$(position "$file" "$at")")
  at=$((payload + payload_length))
done
equal "number of envelopes" "${#leaves[@]}" 3
root=$(node "$(node "${leaves[0]}" "${leaves[1]}")" "${leaves[2]}")
header "$file" 71
root_message "$file" 0 3 "$root" >"$work/message"
verify "transaction" "$work/a-envelope.DER" "$work/signature" "$work/message"

# The payloads of its envelopes, as files of their own.
at=71
for name in message handshake key-request; do
  header "$file" "$at"
  equal "payload $name" "$(slice "$file" "$payload_hash" 32 | hex)" "$(sha256 <"payload-$name.bin")"
  at=$((payload + payload_length))
done

# The relay: when the hub received the envelope, its proof, its length, the envelope.
{
  slice payload-relay.bin 0 8
  cat proof.bin
  unhex "$(printf '%08x' "$(stat -c %s proved-envelope.bin)")"
  cat proved-envelope.bin
} >"$work/relay"
equal "relay" "$(sha256 <payload-relay.bin)" "$(sha256 <"$work/relay")"
equal "stamp of the relay" "$(number payload-relay.bin 0 8)" $((1795342500000 + 5))

# The payloads that no envelope here carries: their numbers, at their places.
room=$(printf 'aa%.0s' {1..16})
equal "tombstone" "$(hex <payload-tombstone.bin)" 000000030013
equal "room of the welcome" "$(slice payload-welcome.bin 0 16 | hex)" "$room"
equal "MLS Welcome and stamp" "$(tail -c 26 payload-welcome.bin | hex)" \
  "0000000e$(printf 'an MLS Welcome' | hex)$(printf '%016x' 1795342500000)"
equal "room and subject of the notice" "$(slice payload-notice.bin 0 17 | hex)" "${room}01"
request=$(printf '11%.0s' {1..16})$(printf 'a2%.0s' {1..16})
equal "answer with keys" "$(slice payload-key-response.bin 0 33 | hex)" "${request}01"
equal "answer without" "$(slice payload-key-refusal.bin 0 35 | hex)" "${request}020005"
reason=$(printf 'the agreement does not grant messages to this user type' | hex)
equal "its reason" "$(tail -c +36 payload-key-refusal.bin | hex)" "0037$reason"

# The head of a device log: format, server name, size, root, time, issuing certificate, signature.
file=payload-log-head.bin
name=$(number "$file" 1 1)
org=$(slice "$file" 2 1)
certificate=$((2 + name + 8 + 32 + 8))
length=$(number "$file" "$certificate" 2)
equal "certificate of the log head" \
  "$(slice "$file" $((certificate + 2)) "$length" | sha256)" "$(sha256 <"$org-issuing.der")"
signature=$((certificate + 2 + length))
slice "$file" $((signature + 1)) "$(number "$file" "$signature" 1)" >"$work/signature"
{ label "entente device log"; slice "$file" 0 "$signature"; } >"$work/message"
verify "log head" "$work/$org-issuing.DER" "$work/signature" "$work/message" -digest sha256
requester=$(printf '11%.0s' {1..16})$(printf 'a1%.0s' {1..16})$(printf 'a2%.0s' {1..16})
equal "look-up" "$(hex <payload-directory-query.bin)" "${requester}0203$(printf bob | hex)"
equal "who is found" "$(hex <payload-directory-answer.bin)" \
  "${request}010000000a03$(printf bob | hex)05$(printf bobby | hex)00"
now=$(printf '%016x' 1795342500000)
disclosed=$(printf 'b2%.0s' {1..16})$(printf '%016x' 1795342440000)$(printf 'an MLS PrivateMessage' | sha256)
disclosed+=0000000c$(printf 'what it said' | hex)
equal "report" "$(hex <payload-abuse-report.bin)" \
  "$(printf '22%.0s' {1..16})$(printf 'b1%.0s' {1..16})${room}02000c$(printf 'since Monday' | hex)0105$(
    printf alice | hex)${now}00000048$disclosed"

# Versions 1 and 2.
equal "version set" "$(hex <version-set.bin)" 0000000400010002

# The proof of its first envelope: tree size, index, path, signature.
equal "size and index in the proof" "$(slice proof.bin 0 8 | hex)" 0000000300000000
equal "length of the path" "$(number proof.bin 8 4)" 64
header proved-envelope.bin 0
equal "proved payload" "$(slice proved-envelope.bin "$payload_hash" 32 | hex)" \
  "$(slice proved-envelope.bin "$payload" "$payload_length" | sha256)"
proved=$(node "$(node "$(leaf proved-envelope.bin 0)" "$(slice proof.bin 12 32 | hex)")" \
  "$(slice proof.bin 44 32 | hex)")
slice proof.bin 76 64 >"$work/signature"
root_message proved-envelope.bin 0 3 "$proved" >"$work/message"
verify "proof" "$work/a-envelope.DER" "$work/signature" "$work/message"

# The receipt: a body that starts like a header without its kind, then an Ed25519 signature.
size=$(stat -c %s receipt.bin)
slice receipt.bin $((size - 64)) 64 >"$work/signature"
{ label "entente receipt"; slice receipt.bin 0 $((size - 64)); } >"$work/message"
verify "receipt" "$work/b-envelope.DER" "$work/signature" "$work/message"
origin_length=$(number receipt.bin 3 1)
destination_length=$(number receipt.bin $((4 + origin_length)) 1)
root_at=$((5 + origin_length + destination_length + 8 + 8))
equal "root in the receipt" "$(slice receipt.bin "$root_at" 32 | hex)" "$root"
# The last lane's chain hash: 0x03, the chain before, the position hash, for each envelope.
chain=$(printf 'the chain up to position 40' | sha256)
for hash in "${positions[0]}" "${positions[1]}"; do
  chain=$(unhex "03$chain$hash" | sha256)
done
equal "chain hash in the receipt" "$(slice receipt.bin $((size - 96)) 32 | hex)" "$chain"

# The same transaction again: three duplicates, the same lanes.
size=$(stat -c %s receipt-again.bin)
slice receipt-again.bin $((size - 64)) 64 >"$work/signature"
{ label "entente receipt"; slice receipt-again.bin 0 $((size - 64)); } >"$work/message"
verify "receipt of the repetition" "$work/b-envelope.DER" "$work/signature" "$work/message"
equal "its root" "$(slice receipt-again.bin "$root_at" 32 | hex)" "$root"
equal "its results" "$(slice receipt-again.bin $((root_at + 32 + 8)) 7 | hex)" 00000003020202
equal "its chain hash" "$(slice receipt-again.bin $((size - 96)) 32 | hex)" "$chain"

# The peering documents: each signs the one before.
signed_document "offer" offer.bin "entente offer" "$work/a-issuing.DER"
signed_document "acceptance" acceptance.bin "entente acceptance" "$work/b-issuing.DER"
size=$(stat -c %s acceptance.bin)
length=$(stat -c %s "$work/signature")
equal "offer in the acceptance" \
  "$(slice acceptance.bin $((size - length - 1 - 32)) 32 | hex)" "$(sha256 <offer.bin)"
signed_document "countersignature" countersignature.bin "entente countersignature" "$work/a-issuing.DER"
size=$(stat -c %s countersignature.bin)
length=$(stat -c %s "$work/signature")
hashes=$((size - length - 1 - 8 - 64))
equal "offer in the countersignature" "$(slice countersignature.bin "$hashes" 32 | hex)" "$(sha256 <offer.bin)"
equal "acceptance in the countersignature" \
  "$(slice countersignature.bin $((hashes + 32)) 32 | hex)" "$(sha256 <acceptance.bin)"
signed_document "evidence" evidence.bin "entente deprovisioning evidence" "$work/a-issuing.DER"
armor evidence.txt EVIDENCE evidence.bin
signed_document "head of an audit log" audit-head.bin "entente audit log" "$work/a-issuing.DER"
signed_document "sighting of an audit log" audit-sighting.bin "entente audit sighting" "$work/b-issuing.DER"
signed_document "room consent" room-consent.bin "entente room consent" "$work/a-issuing.DER"

# What follows: an amendment of that agreement after that offer, the consent to it, a declaration.
signed_document "amendment" amendment.bin "entente amendment" "$work/a-issuing.DER"
end=$(($(stat -c %s amendment.bin) - $(stat -c %s "$work/signature") - 1))
agreement=$(sha256 <countersignature.bin)
equal "agreement in the amendment" "$(slice amendment.bin $((end - 32)) 32 | hex)" "$agreement"
previous=$((2 + 2 * (1 + $(number amendment.bin 2 1)) + 8))
equal "serial of the amendment" "$(number amendment.bin $((previous - 8)) 8)" 2
equal "offer in the amendment" "$(slice amendment.bin "$previous" 32 | hex)" "$(sha256 <offer.bin)"
signed_document "consent" consent.bin "entente consent" "$work/b-issuing.DER"
end=$(($(stat -c %s consent.bin) - $(stat -c %s "$work/signature") - 1))
equal "amendment in the consent" "$(slice consent.bin $((end - 8 - 32)) 32 | hex)" "$(sha256 <amendment.bin)"
signed_document "declaration" declaration.bin "entente declaration" "$work/b-issuing.DER"
end=$(($(stat -c %s declaration.bin) - $(stat -c %s "$work/signature") - 1))
equal "decision and reason in the declaration" "$(slice declaration.bin $((end - 8 - 11)) 11 | hex)" \
  "010008$(printf 'an audit' | hex)"
equal "agreement in the declaration" "$(slice declaration.bin $((end - 8 - 11 - 32)) 32 | hex)" "$agreement"
for name in amendment consent declaration; do
  armor "$name.txt" "${name^^}" "$name.bin"
done
armor offer.txt OFFER offer.bin
armor acceptance.txt ACCEPTANCE acceptance.bin
armor countersignature.txt COUNTERSIGNATURE countersignature.bin

# The charter's file: a charter, its introductions, its signatures, each signature by its member.
length=$(number charter.bin 0 4)
slice charter.bin 4 "$length" >"$work/charter"
{ label "entente charter"; cat "$work/charter"; } >"$work/message"
list=$((4 + length))
at=$((list + 4))
members=$((length - 16 - 2 * (1 + 9 + 32)))               # before the two times, after the members' length
for org in a b; do
  size=$(number charter.bin "$at" 2)
  equal "introduction of $org" "$(slice charter.bin $((at + 2)) "$size" | sha256)" "$(sha256 <"$org-introduction.bin")"
  equal "its hash in the charter" "$(slice "$work/charter" $((members + 10)) 32 | hex)" \
    "$(sha256 <"$org-introduction.bin")"
  at=$((at + 2 + size))
  members=$((members + 42))
done
equal "length of the introductions" "$(number charter.bin "$list" 4)" $((at - list - 4))
at=$((at + 4))
for org in a b; do
  equal "who signed the charter" "$(slice charter.bin $((at + 1)) 9)" "$org.example"
  size=$(number charter.bin $((at + 10)) 1)
  slice charter.bin $((at + 11)) "$size" >"$work/signature"
  verify "charter by $org" "$work/$org-issuing.DER" "$work/signature" "$work/message" -digest sha256
  at=$((at + 11 + size))
done
equal "length of the charter's file" "$at" "$(stat -c %s charter.bin)"
armor charter.txt CHARTER charter.bin

# What follows from it: the three documents of a ceremony, each with an empty signature.
size=$(stat -c %s charter-offer.bin)
equal "no signature" "$(slice charter-offer.bin $((size - 1)) 1 | hex)" 00
size=$(stat -c %s charter-acceptance.bin)
equal "offer that follows, in the acceptance" \
  "$(slice charter-acceptance.bin $((size - 33)) 33 | hex)" "$(sha256 <charter-offer.bin)00"
size=$(stat -c %s charter-countersignature.bin)
equal "both, in the countersignature" "$(slice charter-countersignature.bin $((size - 73)) 64 | hex)" \
  "$(sha256 <charter-offer.bin)$(sha256 <charter-acceptance.bin)"
nonce() { { printf 'entente charter nonce'; unhex "$(sha256 <"$work/charter")"; printf '%s\0%s' "$1" "$2"; } | sha256 | head -c 32; }
[[ "$(hex <charter-offer.bin)" == *"$(nonce a.example b.example)"* ]] || fail "nonce of the offer that follows"
[[ "$(hex <charter-acceptance.bin)" == *"$(nonce b.example a.example)"* ]] || fail "nonce of the acceptance that follows"
checks=$((checks + 2))

echo "$checks checks passed"
