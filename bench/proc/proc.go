//go:build linux

// Package proc reads what the kernel knows of a process and of those that it started: the time
// that they had on a processor, and their memory.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Tree is a process and all that it started, directly or not.
func Tree(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fields, err := stat(id)
		if err != nil {
			continue // it is gone
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], id)
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// stat is the fields of /proc/PID/stat from the third one, the state, on.
func stat(pid int) ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// A name may have blanks and brackets.
	i := bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[i+1:]))
	if i < 0 || len(fields) < 20 {
		return nil, fmt.Errorf("process %d: stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

// CPU is the time that a process and those that it started have had on processors.
func CPU(pid int) (sum time.Duration, err error) {
	tree, err := Tree(pid)
	if err != nil {
		return 0, err
	}
	for _, id := range tree {
		t, err := cpu(id)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", id, err)
		}
		sum += t
	}
	return sum, nil
}

// cpu sums the exact times of the threads. Threads that ended are not in it; the programs that
// are measured end none while they work.
func cpu(pid int) (sum time.Duration, err error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			if _, gone := os.Stat(fmt.Sprintf("/proc/%d/task/%s", pid, task.Name())); gone != nil {
				continue
			}
			return ticks(pid) // a kernel without it
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(raw), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// ticks is the time as every kernel tells it: in hundredths of a second.
func ticks(pid int) (time.Duration, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// RSS is the memory that a process and those that it started have, in bytes. What they share is
// counted for each.
func RSS(pid int) (sum int64, err error) {
	tree, err := Tree(pid)
	if err != nil {
		return 0, err
	}
	for _, id := range tree {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", id))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(raw))
		if len(fields) < 2 {
			return 0, fmt.Errorf("process %d: statm %q", id, raw)
		}
		pages, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += pages * int64(os.Getpagesize())
	}
	return sum, nil
}

// Busy is the time that one processor of the machine has worked for processes, or was taken by
// other machines. It is counted in hundredths of a second. What the kernel did in interrupts is
// not in it: where it is counted apart, it is in nobody's time.
func Busy(cpu int) (time.Duration, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != fmt.Sprintf("cpu%d", cpu) {
			continue
		}
		var sum int64
		for i, f := range fields[1:9] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			switch i {
			case 3, 4: // idle, and waiting for a disk
			case 5, 6: // interrupts
			default:
				sum += n
			}
		}
		return time.Duration(sum) * 10 * time.Millisecond, nil
	}
	return 0, fmt.Errorf("/proc/stat has no processor %d", cpu)
}
