;; Whole lines to Kafka records, for line-records.ts, which says what the parameters mean. All positions are bytes of the
;; one memory. Reads up to 15 bytes behind the source and writes up to 15 behind what it appends: there is room for both.
(module
  (memory (import "slot" "memory") 1)
  (global $at (export "at") (mut i32) (i32.const 0))
  (global $count (export "count") (mut i32) (i32.const 0))

  ;; Bytes of a varint of the zigzag of n, which is not negative and below 2^30.
  (func $size (param $n i32) (result i32)
    (i32.add (i32.const 1)
      (i32.div_u (i32.sub (i32.const 31) (i32.clz (i32.or (i32.shl (local.get $n) (i32.const 1)) (i32.const 1)))) (i32.const 7))))

  (func $varint (param $out i32) (param $n i32) (result i32)
    (local.set $n (i32.shl (local.get $n) (i32.const 1)))
    (loop $more
      (if (i32.ge_u (local.get $n) (i32.const 0x80))
        (then
          (i32.store8 (local.get $out) (i32.or (local.get $n) (i32.const 0x80)))
          (local.set $out (i32.add (local.get $out) (i32.const 1)))
          (local.set $n (i32.shr_u (local.get $n) (i32.const 7)))
          (br $more))))
    (i32.store8 (local.get $out) (local.get $n))
    (i32.add (local.get $out) (i32.const 1)))

  ;; Answers the position behind the copy.
  (func $copy (param $out i32) (param $from i32) (param $length i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $out) (local.get $length)))
    (loop $more
      (if (i32.lt_u (local.get $out) (local.get $end))
        (then
          (v128.store (local.get $out) (v128.load (local.get $from)))
          (local.set $out (i32.add (local.get $out) (i32.const 16)))
          (local.set $from (i32.add (local.get $from) (i32.const 16)))
          (br $more))))
    (local.get $end))

  ;; Appends records at $out while lines begin before $stop, end before $to, are not over $lineMax and fit before $limit.
  ;; Answers the position behind the last record; $at and $count stand behind the last line.
  (func (export "append") (param $from i32) (param $stop i32) (param $to i32) (param $lineMax i32) (param $out i32) (param $limit i32) (param $key i32) (param $keyLength i32) (param $first i32) (result i32)
    (local $line i32) (local $mask i32) (local $length i32) (local $body i32)
    (global.set $at (local.get $from))
    (global.set $count (local.get $first))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $from) (local.get $stop)))
        (local.set $line (local.get $from))
        ;; The newline.
        (loop $scan
          (local.set $mask (i8x16.bitmask (i8x16.eq (v128.load (local.get $from)) (v128.const i8x16 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10))))
          (if (i32.eqz (local.get $mask))
            (then
              (local.set $from (i32.add (local.get $from) (i32.const 16)))
              (br_if $scan (i32.lt_u (local.get $from) (local.get $to)))
              (br $done))))
        (local.set $from (i32.add (local.get $from) (i32.ctz (local.get $mask))))
        (br_if $done (i32.ge_u (local.get $from) (local.get $to)))
        (local.set $length (i32.sub (local.get $from) (local.get $line)))
        (br_if $done (i32.gt_u (local.get $length) (local.get $lineMax)))
        ;; Attributes, timestamp delta and the number of headers are a zero byte each.
        (local.set $body
          (i32.add
            (i32.add (i32.add (local.get $length) (call $size (local.get $length))) (i32.add (local.get $keyLength) (i32.const 3)))
            (call $size (global.get $count))))
        (br_if $done (i32.gt_u (i32.add (local.get $out) (i32.add (local.get $body) (call $size (local.get $body)))) (local.get $limit)))
        (local.set $out (call $varint (local.get $out) (local.get $body)))
        (i32.store16 (local.get $out) (i32.const 0))
        (local.set $out (call $varint (i32.add (local.get $out) (i32.const 2)) (global.get $count)))
        (local.set $out (call $copy (local.get $out) (local.get $key) (local.get $keyLength)))
        (local.set $out (call $varint (local.get $out) (local.get $length)))
        (local.set $out (call $copy (local.get $out) (local.get $line) (local.get $length)))
        (i32.store8 (local.get $out) (i32.const 0))
        (local.set $out (i32.add (local.get $out) (i32.const 1)))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (global.set $at (local.get $from))
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (br $next)))
    (local.get $out)))
