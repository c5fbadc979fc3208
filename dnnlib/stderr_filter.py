"""A program: copies stdin to stderr without TensorFlow's information, warnings and errors of its start."""
import re
import sys

NOISE = re.compile(rb'WARNING: All log messages before absl::InitializeLog\(\)|[IWE]\d{4} \d\d:\d\d:|'
                   rb'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] ')

if __name__ == '__main__':
    for line in sys.stdin.buffer:
        if not NOISE.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
