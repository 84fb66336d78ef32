package ninep

// A request is one T-message being worked on.
type request struct{}

func (r *request) block() {}

func (r *request) cancelled() <-chan struct{} { return nil }
