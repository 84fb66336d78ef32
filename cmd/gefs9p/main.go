// Gefs9p serves disks of Plan 9's gefs over 9P2000, makes them and checks them.
// What it can do is said by gefs9p help; the code is in internal/cli.
package main

import (
	"context"
	"os"

	"gefs9p/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
