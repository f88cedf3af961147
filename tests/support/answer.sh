#!/bin/sh
printf '%s\n' "$CODE"
