"""Routines on strings and lists of strings."""

# ruff: noqa: D103 - the words in the decorator say what a routine does.

from __future__ import annotations

from rolloom.envs.code.routines.core import Ints, Table, Words, routine


@routine(
    "shift every lowercase letter {k} places on in the alphabet, from z on to a; leave other characters",
    2,
    k=range(1, 26),
)
def shift_letters(s: str, k: int) -> str:
    shifted = ""
    for c in s:
        if "a" <= c <= "z":
            shifted += chr((ord(c) - ord("a") + k) % 26 + ord("a"))
        else:
            shifted += c
    return shifted


@routine("reverse the string", 1)
def reverse_text(s: str) -> str:
    return s[::-1]


@routine("remove every '{c}'", 1, c="aeiours")
def remove_letter(s: str, c: str) -> str:
    return s.replace(c, "")


@routine("replace every '{c}' by '{d}'", 1, c="aeio", d=("u", "xy", "-", "q"))
def replace_letter(s: str, c: str, d: str) -> str:
    return s.replace(c, d)


@routine("keep only the characters at positions 0, {k}, 2*{k}, ...", 1, k=(2, 3))
def every_character(s: str, k: int) -> str:
    return s[::k]


@routine("move the first {k} characters to the end (as they are if there are fewer)", 1, k=range(1, 6))
def rotate_text(s: str, k: int) -> str:
    return s[k:] + s[:k]


@routine("write every vowel (a, e, i, o, u) {k} times", 1, k=(2, 3))
def repeat_vowels(s: str, k: int) -> str:
    return "".join([c * k if c in "aeiou" else c for c in s])


@routine("make every character at an even position (0, 2, ...) uppercase", 1)
def upper_even(s: str) -> str:
    return "".join([s[i].upper() if i % 2 == 0 else s[i] for i in range(len(s))])


@routine("put '{c}' between every two neighbouring characters", 1, c="-.+_")
def spread_text(s: str, c: str) -> str:
    return c.join(list(s))


@routine("count the characters that are one of '{letters}'", 1, letters=("aeiou", "abc", "rst", "aoe", "nmr"))
def count_letters(s: str, letters: str) -> int:
    return sum([1 for c in s if c in letters])


@routine("split it at spaces into the list of its words (no empty words)", 1)
def split_words(s: str) -> Words:
    return s.split()


@routine(
    "add up the positions of its lowercase letters in the alphabet (a = {start}, b = {start} + 1, ...)",
    2,
    start=range(0, 10),
)
def letter_sum(s: str, start: int) -> int:
    return sum([ord(c) - ord("a") + start for c in s if "a" <= c <= "z"])


@routine(
    "make the list of the positions of its lowercase letters in the alphabet (a = {start}, b ="
    " {start} + 1, ...)",
    2,
    start=range(0, 10),
)
def letter_numbers(s: str, start: int) -> Ints:
    return [ord(c) - ord("a") + start for c in s if "a" <= c <= "z"]


@routine("sort its characters in the order of their code points", 2)
def sort_text(s: str) -> str:
    return "".join(sorted(s))


@routine("remove every character that has occurred before", 2)
def distinct_text(s: str) -> str:
    kept = ""
    for c in s:
        if c not in kept:
            kept += c
    return kept


@routine(
    "replace every run of equal neighbouring characters by the character followed by the length of the run", 3
)
def run_length_text(s: str) -> str:
    coded = ""
    i = 0
    while i < len(s):
        j = i
        while j < len(s) and s[j] == s[i]:
            j += 1
        coded += s[i] + str(j - i)
        i = j
    return coded


@routine("make a dictionary from every character other than a space to how often it occurs", 3)
def letter_counts(s: str) -> Table:
    counts = {}
    for c in s:
        if c != " ":
            counts[c] = counts.get(c, 0) + 1
    return counts


@routine(
    "take the length of its longest palindromic stretch of neighbouring characters (0 if empty), times {k}",
    5,
    k=range(1, 12),
)
def longest_palindrome(s: str, k: int) -> int:
    best = 0
    for center in range(2 * len(s)):
        left = center // 2
        right = (center + 1) // 2
        while left >= 0 and right < len(s) and s[left] == s[right]:
            best = max(best, right - left + 1)
            left -= 1
            right += 1
    return best * k


@routine(
    "take the length of its longest stretch of neighbouring characters without a repeated one, times {k}",
    4,
    k=range(1, 12),
)
def longest_unique(s: str, k: int) -> int:
    last = {}
    start = 0
    best = 0
    for i in range(len(s)):
        if last.get(s[i], -1) >= start:
            start = last[s[i]] + 1
        last[s[i]] = i
        best = max(best, i - start + 1)
    return best * k


@routine(
    "take the edit distance (fewest insertions, deletions and replacements of one character) to '{word}'",
    6,
    word=("river", "stone", "marble", "candle", "orange", "winter", "garden", "silver", "planet", "button"),
)
def edit_distance(s: str, word: str) -> int:
    row = list(range(len(word) + 1))
    for i in range(len(s)):
        above = row
        row = [i + 1]
        for j in range(len(word)):
            if s[i] == word[j]:
                row.append(above[j])
            else:
                row.append(1 + min(above[j], above[j + 1], row[j]))
    return row[-1]


@routine(
    "take the length of the longest common subsequence (gaps allowed) with '{word}', times {k}",
    6,
    k=range(1, 9),
    word=("interesting", "orientation", "strandlines", "reasonable"),
)
def common_subsequence(s: str, word: str, k: int) -> int:
    row = [0] * (len(word) + 1)
    for c in s:
        above = row
        row = [0]
        for j in range(len(word)):
            if c == word[j]:
                row.append(above[j] + 1)
            else:
                row.append(max(above[j + 1], row[j]))
    return row[-1] * k


@routine("it has more than {k} characters", 2, k=range(5, 15))
def text_longer_than(s: str, k: int) -> bool:
    return len(s) > k


@routine("it contains the letter '{c}'", 2, c="aeiorst")
def has_letter(s: str, c: str) -> bool:
    return c in s


@routine("sort the strings by length, those of equal length alphabetically", 2)
def sort_by_length(words: Words) -> Words:
    return [pair[1] for pair in sorted([(len(w), w) for w in words])]


@routine("sort the strings alphabetically", 1)
def sort_words(words: Words) -> Words:
    return sorted(words)


@routine("make the list of their lengths", 1)
def word_lengths(words: Words) -> Ints:
    return [len(w) for w in words]


@routine("join them with '{c}' between", 1, c=("", "-", "+", "/", "--", "."))
def join_words(words: Words, c: str) -> str:
    return c.join(words)


@routine("keep only those longer than {k} characters", 1, k=range(2, 6))
def long_words(words: Words, k: int) -> Words:
    return [w for w in words if len(w) > k]


@routine("reverse every string", 1)
def reverse_each(words: Words) -> Words:
    return [w[::-1] for w in words]


@routine("reverse the order of the list", 1)
def reverse_words(words: Words) -> Words:
    return words[::-1]


@routine("keep only the first {k} characters of every string", 1, k=range(1, 5))
def prefixes(words: Words, k: int) -> Words:
    return [w[:k] for w in words]


@routine("join the first characters of those that are not empty", 2)
def initials(words: Words) -> str:
    return "".join([w[0] for w in words if w])


@routine(
    "take the longest string, the first of those in a tie ('{c}' for an empty list)", 2, c=("", "none", "?")
)
def longest_word(words: Words, c: str) -> str:
    if not words:
        return c
    best = words[0]
    for w in words:
        if len(w) > len(best):
            best = w
    return best


@routine(
    "make a dictionary from every first character (of strings that are not empty) to how many strings"
    " start with it",
    3,
)
def first_letter_counts(words: Words) -> Table:
    counts = {}
    for w in words:
        if w:
            counts[w[0]] = counts.get(w[0], 0) + 1
    return counts


@routine("make a dictionary from every string to {k} times its length", 3, k=range(1, 10))
def length_table(words: Words, k: int) -> Table:
    table = {}
    for w in words:
        table[w] = k * len(w)
    return table


@routine(
    "take the number of groups of strings that are anagrams of each other (a string alone is a"
    " group), times {k}",
    4,
    k=range(1, 20),
)
def anagram_groups(words: Words, k: int) -> int:
    seen = []
    for w in words:
        letters = sorted(w)
        if letters not in seen:
            seen.append(letters)
    return len(seen) * k


@routine("it has at least {k} strings", 2, k=range(2, 6))
def words_at_least(words: Words, k: int) -> bool:
    return len(words) >= k
