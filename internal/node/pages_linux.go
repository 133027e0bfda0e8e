package node

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// forgetProgram takes the pages of the program itself, its code and constants, out of the
// process's memory. Those that are used come back from the page cache as they are used, which
// costs a fault for some dozens of them; what only a start or a burst used does not.
func forgetProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var begin, end uintptr
		var mode string
		line := lines.Text()
		// What may be written to may differ from the file.
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &mode); err != nil || mode[1] == 'w' || !strings.HasSuffix(line, " "+exe) {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, syscall.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}
