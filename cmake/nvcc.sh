#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: nvcc.sh OBJECT NVCC ARGUMENTS... : runs nvcc; what ptxas says of registers and spills goes to OBJECT.ptxas.
object=$1
shift
"$@" >"$object.ptxas" 2>&1
status=$?
[ $status = 0 ] || cat "$object.ptxas" >&2
[ $status != 0 ] || grep -E 'warning' "$object.ptxas" >&2
exit $status
