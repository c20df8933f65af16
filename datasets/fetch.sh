#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the fetch-*.sh beside this file share; they source it. Files come from Hugging Face's hub, or from the mirror of it that SORACL_HUB
# names (https://huggingface.co): paths below it are as the hub's. Needs curl or wget, and sha256sum or shasum. A stopped download is left
# as FILE.part and goes on at the next run; FILE appears when size and SHA-256 are right.

hub=${SORACL_HUB:-https://huggingface.co}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

bytes_of() {
  if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

sha256_of() {
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1" | cut -d ' ' -f 1
  elif command -v shasum >/dev/null; then
    shasum -a 256 <"$1" | cut -d ' ' -f 1
  else
    fail "needs sha256sum or shasum"
  fi
}

# download URL FILE: goes on where FILE ends.
download() {
  if command -v curl >/dev/null; then
    result=0
    curl -fL --no-progress-meter --connect-timeout 20 --retry 3 -C - -o "$2" "$1" || result=$?
    if [ "$result" -eq 33 ]; then # the server can't resume
      rm -f "$2"
      result=0
      curl -fL --no-progress-meter --connect-timeout 20 --retry 3 -o "$2" "$1" || result=$?
    fi
    return "$result"
  fi
  command -v wget >/dev/null || fail "needs curl or wget"
  wget -nv --connect-timeout=20 --tries=3 -c -O "$2" "$1"
}

unreachable() {
  fail "cannot get $1: see the message above; without a network, bring the file to $2 by other means. Run again to go on"
}

# fetch_text URL FILE: a small file that has no sum on the hub. It must look like JSON, as a network's login page does not.
fetch_text() {
  if [ -s "$2" ]; then return; fi
  echo "$2" >&2
  rm -f "$2.part"
  download "$1" "$2.part" || unreachable "$1" "$2"
  case $(tr -d ' \n\r\t' <"$2.part" | cut -c 1) in
  '{') mv "$2.part" "$2" ;;
  *)
    rm -f "$2.part"
    fail "$1 is no JSON: another page came instead"
    ;;
  esac
}

# fetch_sum URL FILE BYTES SHA256
fetch_sum() {
  if [ "$(bytes_of "$2")" -eq "$3" ] && [ "$(sha256_of "$2")" = "$4" ]; then
    echo "$2 is there" >&2
    return
  fi
  echo "$2, $3 bytes" >&2
  if [ "$(bytes_of "$2.part")" -gt "$3" ]; then rm -f "$2.part"; fi
  if [ "$(bytes_of "$2.part")" -lt "$3" ]; then download "$1" "$2.part" || unreachable "$1" "$2"; fi
  found=$(bytes_of "$2.part")
  if [ "$found" -lt "$3" ]; then fail "$2.part has $found of $3 bytes; run again to go on"; fi
  found="$found bytes, SHA-256 $(sha256_of "$2.part")"
  if [ "$found" != "$3 bytes, SHA-256 $4" ]; then
    rm -f "$2.part"
    fail "$1 is not the expected file: $found; expected $3 bytes, SHA-256 $4"
  fi
  mv "$2.part" "$2"
}

# fetch_large REPOSITORY NAME FILE: size and sum are read from the pointer that the hub's repository holds in the file's place.
fetch_large() {
  rm -f "$3.pointer"
  download "$hub/$1/raw/main/$2" "$3.pointer" || {
    rm -f "$3.pointer"
    unreachable "$hub/$1/raw/main/$2" "$3"
  }
  sum=$(sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p' "$3.pointer")
  bytes=$(sed -n 's/^size \([0-9]\{1,15\}\)$/\1/p' "$3.pointer")
  rm -f "$3.pointer"
  if [ -z "$sum" ] || [ -z "$bytes" ]; then fail "$hub/$1/raw/main/$2 is no pointer to a large file (oid sha256:..., size ...)"; fi
  fetch_sum "$hub/$1/resolve/main/$2" "$3" "$bytes" "$sum"
}
