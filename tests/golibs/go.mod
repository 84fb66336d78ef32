module gefs9p/tests/golibs

go 1.26.0

require (
	9fans.net/go v0.0.8-0.20250307142834-96bdba94b63f
	gefs9p v0.0.0
	github.com/docker/go-p9p v0.0.0-20191112112554-37d97cf40d03
	github.com/google/go-cmp v0.7.0
	github.com/hugelgupf/p9 v0.4.1
	github.com/knusbaum/go9p v1.18.0
	github.com/lionkov/go9p v0.0.0-20190125202718-b4200817c487
)

require (
	github.com/u-root/uio v0.0.0-20230305220412-3e8cd9d6bf63 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace gefs9p => ../..
